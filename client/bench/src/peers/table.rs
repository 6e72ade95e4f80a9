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
        for (row, values) in &self.rows {
            let medians: Vec<Option<f64>> = values.iter().map(|values| median(values)).collect();
            let told: Vec<String> = medians.iter().map(|median| figure(*median)).collect();
            let Row { what, unit, .. } = row;
            write!(f, "| {what}, {unit} | {} |", told.join(" | "))?;
            if self.compares {
                let ratio = to_the_best(&medians, row.better);
                let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2} ×"));
                write!(f, " {ratio} |")?;
            }
            writeln!(f)?;
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
