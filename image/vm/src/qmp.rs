//! QEMU's own protocol (QMP): a line of JSON there, a line of JSON back, and events in between.

use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

/// Events that nobody has waited for: the newest are kept.
const EVENTS_MAX: usize = 1000;

/// A connection to a QEMU, over its socket or what a test has in its place.
#[derive(Debug)]
pub(crate) struct Qmp<R = BufReader<UnixStream>, W = UnixStream> {
    from: R,
    to: W,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Greets a QEMU that has connected. What it doesn't answer in time is an error.
    pub(crate) fn greet(socket: UnixStream) -> anyhow::Result<Qmp> {
        socket.set_read_timeout(Some(crate::wait::DEADLINE))?;
        Qmp::over(BufReader::new(socket.try_clone()?), socket)
    }
}

impl<R: BufRead, W: Write> Qmp<R, W> {
    fn over(from: R, to: W) -> anyhow::Result<Qmp<R, W>> {
        let mut qmp = Qmp {
            from,
            to,
            events: VecDeque::new(),
        };
        let greeting = qmp.line()?;
        if greeting.get("QMP").is_none() {
            bail!("not QEMU: {greeting}");
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// One command and what it returns.
    #[allow(clippy::needless_pass_by_value)] // `json!` is written in place
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> anyhow::Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.to, "{request}").with_context(|| format!("QEMU takes no {command}"))?;
        loop {
            let mut line = self
                .line()
                .with_context(|| format!("no answer to {command}"))?;
            if line.get("event").is_some() {
                self.keep(line);
            } else if let Some(error) = line.get("error") {
                bail!(
                    "QEMU: {command}: {}",
                    error["desc"].as_str().unwrap_or("an error without words")
                );
            } else {
                return Ok(line["return"].take());
            }
        }
    }

    /// A command of QEMU's monitor for people, where QMP has none: what it printed.
    pub(crate) fn monitor(&mut self, command: &str) -> anyhow::Result<String> {
        let printed = self.execute("human-monitor-command", json!({ "command-line": command }))?;
        Ok(printed.as_str().unwrap_or_default().to_owned())
    }

    /// Takes the first event of this name for which `is_it`, and waits for it where it hasn't come yet.
    pub(crate) fn event(
        &mut self,
        name: &str,
        is_it: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<()> {
        let wanted = |event: &Value| event["event"] == name && is_it(&event["data"]);
        if let Some(at) = self.events.iter().position(wanted) {
            self.events.remove(at);
            return Ok(());
        }
        loop {
            let line = self.line().with_context(|| format!("no event {name}"))?;
            if wanted(&line) {
                return Ok(());
            }
            self.keep(line);
        }
    }

    fn keep(&mut self, event: Value) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn line(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        // More than any answer has.
        let len = self.from.by_ref().take(1 << 24).read_line(&mut line)?;
        if len == 0 {
            bail!("QEMU has ended");
        }
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Qmp;
    use serde_json::json;
    use std::io::Cursor;

    fn said(lines: &str) -> anyhow::Result<Qmp<Cursor<Vec<u8>>, Vec<u8>>> {
        Qmp::over(Cursor::new(lines.into()), Vec::new())
    }

    const HELLO: &str = "{\"QMP\":{}}\n{\"return\":{}}\n";

    #[test]
    fn an_event_before_the_answer_is_kept_for_who_waits() {
        let mut qmp = said(&format!(
            "{HELLO}{}\n{}\n{}\n",
            r#"{"event":"DEVICE_DELETED","data":{"device":"a"}}"#,
            r#"{"event":"DEVICE_DELETED","data":{"device":"b"}}"#,
            r#"{"return":{"running":true}}"#
        ))
        .unwrap();
        assert_eq!(
            qmp.execute("query-status", json!({})).unwrap(),
            json!({"running": true})
        );
        for device in ["b", "a"] {
            qmp.event("DEVICE_DELETED", |data| data["device"] == device)
                .unwrap();
        }
        assert!(
            qmp.event("DEVICE_DELETED", |_| true).is_err(),
            "each is taken once"
        );
    }

    #[test]
    fn an_error_is_said_with_its_command() {
        let mut qmp = said(&format!(
            "{HELLO}{}\n",
            r#"{"error":{"class":"GenericError","desc":"no such id"}}"#
        ))
        .unwrap();
        let error = qmp.execute("device_del", json!({"id": "x"})).unwrap_err();
        assert_eq!(error.to_string(), "QEMU: device_del: no such id");
    }

    #[test]
    fn something_else_is_not_taken_for_qemu() {
        assert!(said("{\"hello\":1}\n").is_err());
        assert!(said("").is_err());
    }
}
