//! A configuration to text, by the printers in the table: `parse(print(c)) == c`.

use super::command::{Command, Id, Mode, Print};
use super::table::commands;
use crate::model::{Config, Interface, PortMode, RouterInterface, XdpMode, vlan_of_name};

/// The configuration as `show running-config` prints it: defaults left out, one blank of indentation for each mode.
#[must_use]
pub fn print(config: &Config) -> String {
    let mut out = Lines::default();
    let routed = |name: &str| config.router.iter().find(|router| router.name == name);
    let vlans = config.router.iter().filter(|router| vlan_of_name(&router.name).is_some());
    let vlan = |router: &RouterInterface| Interface {
        name: router.name.clone(),
        mode: PortMode::Routed,
        xdp: XdpMode::default(),
    };
    for interface in config.interfaces.iter().cloned().chain(vlans.map(vlan)) {
        out.section(0, Mode::Interface, |print| match print {
            Print::Interface(line) => line(&interface),
            Print::Router(line) => routed(&interface.name).map(line).unwrap_or_default(),
            _ => Vec::new(),
        });
    }
    out.lines_of(0, Id::IpRoute, |print| match print {
        Print::Config(line) => line(config),
        _ => Vec::new(),
    });
    out.lines_of(0, Id::Ipv6Route, |print| match print {
        Print::Config(line) => line(config),
        _ => Vec::new(),
    });
    for list in &config.access_lists {
        let lines = |print| match print {
            Print::AccessList(line) => line(list),
            _ => Vec::new(),
        };
        out.lines_of(0, Id::NumberedList, lines);
        out.section(0, Mode::AccessList, lines);
    }
    out.section(0, Mode::Module, |print| match print {
        Print::Global(line) => line(config),
        _ => Vec::new(),
    });
    for vlan in &config.vlans {
        out.section(1, Mode::Vlan, |print| match print {
            Print::Vlan(line) => line(vlan),
            _ => Vec::new(),
        });
    }
    for probe in &config.probes {
        out.section(1, Mode::Probe, |print| match print {
            Print::Probe(line) => line(probe),
            _ => Vec::new(),
        });
    }
    for pool in &config.natpools {
        out.lines_of(1, Id::Natpool, |print| match print {
            Print::Natpool(line) => line(pool),
            _ => Vec::new(),
        });
    }
    // A `real` below `static` or a farm is another: these come before.
    for real in &config.named_reals {
        out.section(1, Mode::NamedReal, |print| match print {
            Print::NamedReal(line) => line(real),
            _ => Vec::new(),
        });
    }
    for rule in &config.statics {
        out.section(1, Mode::Static, |print| match print {
            Print::Static(line) => line(rule),
            _ => Vec::new(),
        });
    }
    for farm in &config.serverfarms {
        out.section(1, Mode::Serverfarm, |print| match print {
            Print::Serverfarm(line) => line(farm),
            _ => Vec::new(),
        });
        for real in &farm.reals {
            out.section(2, Mode::Real, |print| match print {
                Print::Real(line) => line(real),
                _ => Vec::new(),
            });
        }
    }
    // A `sticky` below a virtual server is another: these come before.
    for group in &config.sticky_groups {
        out.section(1, Mode::StickyGroup, |print| match print {
            Print::StickyGroup(line) => line(group),
            _ => Vec::new(),
        });
    }
    for policy in &config.policies {
        out.section(1, Mode::Policy, |print| match print {
            Print::Policy(line) => line(policy),
            _ => Vec::new(),
        });
    }
    for owner in &config.owners {
        out.section(1, Mode::Owner, |print| match print {
            Print::Owner(line) => line(owner),
            _ => Vec::new(),
        });
    }
    for vserver in &config.vservers {
        out.section(1, Mode::Vserver, |print| match print {
            Print::Vserver(line) => line(vserver),
            _ => Vec::new(),
        });
    }
    if let Some(ft) = &config.ft {
        out.section(1, Mode::Ft, |print| match print {
            Print::Ft(line) => line(ft),
            _ => Vec::new(),
        });
    }
    out.text
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    /// The line that opens `mode` at `depth`, and below it the lines of the mode's own commands, in table order.
    fn section(&mut self, depth: usize, mode: Mode, lines: impl Fn(Print) -> Vec<String>) {
        let opens = |command: &&Command| command.opens == Some(mode);
        for command in commands().filter(opens) {
            self.lines(depth, &lines(command.print));
        }
        // What opens a deeper section prints that section's item, not this one's.
        for command in commands().filter(|command| command.mode == mode) {
            self.lines(depth + 1, &lines(command.print));
        }
    }

    /// The lines of one command that opens no section.
    fn lines_of(&mut self, depth: usize, id: Id, lines: impl Fn(Print) -> Vec<String>) {
        for command in commands().filter(|command| command.id == id) {
            self.lines(depth, &lines(command.print));
        }
    }

    fn lines(&mut self, depth: usize, lines: &[String]) {
        for line in lines {
            self.text.extend(std::iter::repeat_n(' ', depth));
            self.text.push_str(line);
            self.text.push('\n');
        }
    }
}
