//! What was measured, as a table for people.

use std::fmt;

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    what: &'static str,
    unit: &'static str,
    better: Better,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Better {
    More,
    Less,
    /// It is no program's merit.
    Neither,
}

impl Row {
    /// Something of which more is better.
    pub(crate) const fn speed(what: &'static str, unit: &'static str) -> Row {
        let better = Better::More;
        Row { what, unit, better }
    }

    /// Something of which less is better.
    pub(crate) const fn cost(what: &'static str, unit: &'static str) -> Row {
        let better = Better::Less;
        Row { what, unit, better }
    }

    /// Something that isn't compared.
    pub(crate) const fn circumstance(what: &'static str, unit: &'static str) -> Row {
        let better = Better::Neither;
        Row { what, unit, better }
    }
}

/// How many times slower than ours a program is that isn't measured again: no noise makes that much.
const FAR: f64 = 10.0;

/// Values by row and program.
#[derive(Debug)]
pub(crate) struct Table {
    programs: Vec<String>,
    compares: bool,
    rows: Vec<(Row, Vec<Vec<f64>>)>,
}

impl Table {
    /// An empty one; the first program is ours, and compared with the others.
    pub(crate) fn new<T: ToString>(programs: &[T]) -> Table {
        Table {
            programs: programs.iter().map(T::to_string).collect(),
            compares: true,
            rows: Vec::new(),
        }
    }

    /// One whose columns are all ours.
    pub(crate) fn of_ours<T: ToString>(columns: &[T]) -> Table {
        let compares = false;
        Table {
            compares,
            ..Table::new(columns)
        }
    }

    /// Adds what one round of a program came to, and says it to whoever waits.
    pub(crate) fn add(&mut self, row: Row, program: usize, value: f64) {
        eprintln!("    {}, {}: {}", row.what, row.unit, figure(Some(value)));
        let at = self.rows.iter().position(|(known, _)| *known == row);
        let at = at.unwrap_or_else(|| {
            self.rows.push((row, vec![Vec::new(); self.programs.len()]));
            self.rows.len() - 1
        });
        self.rows[at].1[program].push(value);
    }

    /// Whether all of this is known of a program, and in all of it ours is so much better that another round would
    /// only take time.
    pub(crate) fn is_far_behind(&self, program: usize, rows: &[Row]) -> bool {
        rows.iter().all(|row| {
            let known = self.rows.iter().find(|(known, _)| known == row);
            known.is_some_and(|(row, values)| {
                let pair = [median(&values[0]), median(&values[program])];
                program > 0 && to_the_best(&pair, row.better).is_some_and(|ratio| ratio >= FAR)
            })
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, rule) = if self.compares {
            (" to the best other |", "---|")
        } else {
            ("", "")
        };
        writeln!(f, "| | {} |{title}", self.programs.join(" | "))?;
        writeln!(f, "|---{}|{rule}", "|---".repeat(self.programs.len()))?;
        let mut marked = false;
        for (row, values) in &self.rows {
            let most = values.iter().map(Vec::len).max().unwrap_or_default();
            let medians: Vec<Option<f64>> = values.iter().map(|values| median(values)).collect();
            let told = values.iter().zip(&medians).map(|(values, median)| {
                let less = (1..most).contains(&values.len());
                marked |= less;
                figure(*median) + if less { "\\*" } else { "" }
            });
            let told: Vec<String> = told.collect();
            let Row { what, unit, .. } = row;
            write!(f, "| {what}, {unit} | {} |", told.join(" | "))?;
            if self.compares {
                let ratio = to_the_best(&medians, row.better);
                let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2} ×"));
                write!(f, " {ratio} |")?;
            }
            writeln!(f)?;
        }
        if marked {
            writeln!(f, "\n\\* in fewer rounds, since it takes so long")?;
        }
        Ok(())
    }
}

/// How many times as good the first is as the best of the others.
fn to_the_best(medians: &[Option<f64>], better: Better) -> Option<f64> {
    let (ours, others) = medians.split_first()?;
    let others = others.iter().copied().flatten();
    match better {
        Better::More => Some((*ours)? / others.reduce(f64::max)?),
        Better::Less => Some(others.reduce(f64::min)? / (*ours)?),
        Better::Neither => None,
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Three digits are more than a busy machine can tell.
fn figure(value: Option<f64>) -> String {
    match value {
        None => "–".into(),
        Some(v) if v < 10.0 => format!("{v:.2}"),
        Some(v) if v < 100.0 => format!("{v:.1}"),
        Some(v) => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Better, Row, Table, median, to_the_best};

    #[test]
    fn a_ratio_above_one_is_better() {
        let three = [Some(200.0), Some(50.0), Some(100.0)];
        assert_eq!(to_the_best(&three, Better::More), Some(2.0));
        let three = [Some(2.0), None, Some(4.0)];
        assert_eq!(to_the_best(&three, Better::Less), Some(2.0));
        assert_eq!(to_the_best(&[Some(2.0), None], Better::Less), None);
        assert_eq!(to_the_best(&three, Better::Neither), None);
    }

    #[test]
    fn the_median_is_in_the_middle_of_what_was_measured() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn who_is_far_behind_is_measured_once_and_marked() {
        let mut table = Table::new(&["ours", "theirs", "hers"]);
        let (up, down) = (Row::speed("up", "MiB/s"), Row::cost("down", "s"));
        for (program, speed, seconds) in [(0, 100.0, 1.0), (1, 9.0, 11.0), (2, 9.0, 9.0)] {
            table.add(up, program, speed);
            table.add(down, program, seconds);
        }
        assert!(table.is_far_behind(1, &[up, down]));
        assert!(!table.is_far_behind(2, &[up, down]));
        assert!(table.is_far_behind(2, &[up]));
        assert!(!table.is_far_behind(0, &[up, down]), "ours never is");
        let unknown = Row::cost("else", "s");
        assert!(!table.is_far_behind(1, &[up, unknown]));
        table.add(up, 0, 100.0);
        let table = table.to_string();
        assert!(table.contains("| 100 | 9.00\\* | 9.00\\* |"), "{table}");
        assert!(table.contains("| 1.00 | 11.0 | 9.00 |"), "{table}");
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        let mut table = Table::new(&["ours", "theirs", "hers"]);
        for value in [3.0, 1.0, 2.0] {
            table.add(Row::speed("up", "MiB/s"), 0, value);
            table.add(Row::speed("up", "MiB/s"), 2, 10.0 * value);
        }
        let table = table.to_string();
        assert!(
            table.ends_with("| up, MiB/s | 2.00 | – | 20.0 | 0.10 × |\n"),
            "{table}"
        );
    }
}
