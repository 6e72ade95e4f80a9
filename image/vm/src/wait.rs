//! Waiting for what takes as long as it takes.

use anyhow::bail;
use std::time::{Duration, Instant};

/// For what should happen soon. The machine is emulated and may share its computer with others: only
/// what hangs should come to this.
pub const DEADLINE: Duration = Duration::from_secs(600);

/// Between two looks at a condition.
const BETWEEN: Duration = Duration::from_millis(200);

/// Looks again and again until the condition gives something; `what` is awaited, for the error.
///
/// # Errors
/// The condition's own, and when the deadline is over.
pub fn wait_until<T>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = condition()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            bail!("waited {} s for {what}", deadline.as_secs());
        }
        std::thread::sleep(BETWEEN);
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, wait_until};

    #[test]
    fn the_condition_is_tried_once_even_without_time() {
        assert_eq!(
            wait_until(Duration::ZERO, "seven", || Ok(Some(7))).unwrap(),
            7
        );
    }

    #[test]
    fn what_was_awaited_is_said() {
        let error = wait_until(Duration::ZERO, "a sign", || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s for a sign");
    }
}
