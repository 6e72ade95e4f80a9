//! Writes what the packages have besides the programs and units: man pages and completions, made from the
//! programs' own help, so that they say the same; and what the programs are made of. `image/package/build`
//! runs it.

mod sbom;

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    // The tests of the packages have this program be what the packages' programs talk to.
    if let Some(exit) = raspbox_try::bed::play() {
        return Ok(exit);
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["share", folder] => write_all(Path::new(folder))?,
        ["sbom", package, target] => print!("{}", sbom::print(package, target)?),
        _ => anyhow::bail!("usage: raspbox-package share FOLDER | sbom PACKAGE TARGET"),
    }
    Ok(ExitCode::SUCCESS)
}

/// `dir/PACKAGE/usr/share/…` for both packages.
fn write_all(dir: &Path) -> anyhow::Result<()> {
    // 8: what an administrator runs (man(1)); the units name raspboxd(8).
    for (command, section) in [
        (raspboxd::cli::command(), "8"),
        (raspbox::cli::command(), "1"),
    ] {
        let share = dir.join(command.get_name()).join("usr/share");
        write_pages(
            command.clone(),
            section,
            &share.join(format!("man/man{section}")),
        )?;
        write_completions(command, &share)?;
    }
    Ok(())
}

fn write_pages(mut command: Command, section: &str, dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    // Gives the commands below the names of their pages.
    command.build();
    write_page(&command, section, dir)
}

fn write_page(command: &Command, section: &str, dir: &Path) -> anyhow::Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    let page = Man::new(command.clone()).section(section);
    page.render(&mut File::create(dir.join(format!("{name}.{section}")))?)?;
    for below in command.get_subcommands() {
        if below.get_name() != "help" && !below.is_hide_set() {
            write_page(below, section, dir)?;
        }
    }
    Ok(())
}

fn write_completions(mut command: Command, share: &Path) -> anyhow::Result<()> {
    let name = command.get_name().to_owned();
    for (shell, folder) in [
        (Shell::Bash, "bash-completion/completions"),
        (Shell::Zsh, "zsh/vendor-completions"),
        (Shell::Fish, "fish/vendor_completions.d"),
    ] {
        let folder = share.join(folder);
        fs::create_dir_all(&folder)?;
        let file = generate_to(shell, &mut command, &name, &folder)?;
        if shell == Shell::Bash {
            // bash looks for a file that is named as the program.
            fs::rename(file, folder.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::write_all;
    use std::fs;

    #[test]
    fn each_command_has_a_page_and_each_shell_completions() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path()).unwrap();
        let read = |file: &str| {
            fs::read_to_string(dir.path().join(file))
                .unwrap_or_else(|error| panic!("{file}: {error}"))
        };
        assert!(read("raspboxd/usr/share/man/man8/raspboxd.8").contains(".TH raspboxd 8"));
        assert!(read("raspboxd/usr/share/man/man8/raspboxd-drive-format.8").contains("erases"));
        assert!(read("raspbox/usr/share/man/man1/raspbox-sync.1").contains("dry"));
        for program in ["raspboxd", "raspbox"] {
            let share = format!("{program}/usr/share");
            for file in [
                "bash-completion/completions/{}",
                "zsh/vendor-completions/_{}",
                "fish/vendor_completions.d/{}.fish",
            ] {
                assert!(
                    read(&format!("{share}/{}", file.replace("{}", program))).contains("status"),
                    "{program} {file}"
                );
            }
        }
    }
}
