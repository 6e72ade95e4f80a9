//! Says how the machine can be reached, once or whenever that changes.

use super::describe::describe;
use super::{FILE, Report, look};
use crate::boot::told::Told;
use crate::root::Root;
use anyhow::Context;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// Changes come in groups: a link, its address, a second one.
const SETTLE: Duration = Duration::from_secs(2);

/// How long a line has to stand before it goes on the card's page, which is a write to the card.
const PAGE_AFTER: Duration = Duration::from_secs(30);

/// How often it is looked at without a reason.
const LOOK_INTERVAL: Duration = Duration::from_secs(600);

/// RTMGRP_LINK and RTMGRP_IPV4_IFADDR of rtnetlink(7).
const GROUPS: u32 = 0x1 | 0x10;

/// Looks once, and tells it everywhere.
pub(crate) fn once(root: &Root) -> anyhow::Result<Report> {
    let (report, told) = tell(root)?;
    if let Some(told) = told {
        told.write_page(root, Some(&report))?;
    }
    Ok(report)
}

/// Looks whenever the kernel says that something has changed, until it is ended.
pub(crate) fn forever(root: &Root) -> anyhow::Result<std::convert::Infallible> {
    // Before the first look, so that nothing is missed after it.
    let changes = Changes::listen().context("cannot listen to changes of the network")?;
    let mut last: Option<Report> = None;
    let mut on_page: Option<Report> = None;
    loop {
        match tell(root) {
            Ok((report, told)) => {
                if last.as_ref() != Some(&report) {
                    tracing::info!(line = report.line, ok = report.ok, "network");
                    last = Some(report);
                } else if on_page != last {
                    if let Some(Err(error)) = told.map(|told| told.write_page(root, last.as_ref()))
                    {
                        tracing::warn!(error = format!("{error:#}"), "cannot write the page");
                    }
                    on_page.clone_from(&last);
                }
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "cannot look at the network");
            }
        }
        let settled = on_page == last;
        if changes.wait(if settled { LOOK_INTERVAL } else { PAGE_AFTER })? {
            while changes.wait(SETTLE)? {}
        }
    }
}

/// Looks, and writes the report where it is another one.
fn tell(root: &Root) -> anyhow::Result<(Report, Option<Told>)> {
    let told = Told::read(root);
    let fixed = told.as_ref().and_then(|told| told.fixed);
    let report = describe(fixed, &look::links(root)?);
    if root.said::<Report>(FILE).as_ref() != Some(&report) {
        root.say(FILE, &report)
            .context("cannot write the report on the network")?;
    }
    Ok((report, told))
}

/// What the kernel says of links and addresses. What it says is not read, only that it does.
struct Changes(OwnedFd);

impl Changes {
    fn listen() -> nix::Result<Changes> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Changes(socket))
    }

    /// Waits for a change; `false` where none came.
    fn wait(&self, at_most: Duration) -> nix::Result<bool> {
        let timeout = TimeVal::seconds(at_most.as_secs().cast_signed());
        setsockopt(&self.0, sockopt::ReceiveTimeout, &timeout)?;
        let mut message = [0; 8 << 10];
        match recv(self.0.as_raw_fd(), &mut message, MsgFlags::empty()) {
            // More than there was room for, ENOBUFS, is a change as well.
            Ok(_) | Err(Errno::ENOBUFS) => Ok(true),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
