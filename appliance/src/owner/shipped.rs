//! The explained file that is installed: every setting, commented, with its default.

/// The file. The image puts it on the card.
#[cfg(test)]
pub(crate) const SHIPPED: &str = include_str!("../../../systemd/usr/share/raspbox/raspbox.toml");

#[cfg(test)]
mod tests {
    use super::SHIPPED;
    use crate::config;
    use crate::owner::file::File;
    use crate::owner::settings::{Settings, all_keys, read};

    fn uncommented() -> String {
        let lines = SHIPPED.lines().map(|line| {
            let is_setting =
                line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
            line[usize::from(is_setting)..].to_owned() + "\n"
        });
        lines.collect()
    }

    #[test]
    fn its_values_are_the_defaults() {
        let understood = |text: &str| {
            let (mut settings, problems) = read(&File::parse(text.into()), None);
            assert_eq!(problems, []);
            let daemon = config::parse(&settings.for_daemon()).unwrap();
            settings.daemon = Default::default();
            (settings, daemon)
        };
        let shipped = understood(SHIPPED);
        assert_eq!(shipped, understood(&uncommented()));
        assert_eq!(shipped, understood(""));
        assert_eq!(shipped.0, Settings::default());
    }

    #[test]
    fn every_setting_is_explained() {
        let text = uncommented();
        let file = File::parse(text.clone().into());
        let mut said = Vec::new();
        for (key, value) in &file.table() {
            match value.get_ref().as_table() {
                None => said.push(key.get_ref().to_string()),
                Some(table) => said.extend(
                    table
                        .keys()
                        .map(|inner| format!("{}.{}", key.get_ref(), inner.get_ref())),
                ),
            }
        }
        let man = include_str!("../../man/raspbox.toml.5");
        let in_man: Vec<&str> = man
            .lines()
            .filter_map(|line| line.strip_prefix(".It Cm "))
            .flat_map(|line| line.split(" , "))
            .collect();
        for key in &said {
            let last = key.rsplit('.').next().unwrap();
            assert!(in_man.contains(&last), "{key} isn't in the manual");
        }
        for key in all_keys() {
            assert!(said.contains(&key), "{key} isn't explained");
        }
        for (i, line) in SHIPPED.lines().enumerate() {
            assert!(line.chars().count() <= 108, "line {} is long", i + 1);
            assert!(line.is_ascii(), "line {}", i + 1);
        }
    }
}
