//! `show module csm N serverfarms`.

use std::fmt::{self, Write};

use super::rule;
use crate::api::reply::ServerfarmReply;

/// Writes the listing.
pub fn write(out: &mut impl Write, farms: &[ServerfarmReply]) -> fmt::Result {
    writeln!(out, "server farm      type     predictor    nat   reals   redirect  bind id")?;
    rule(out, 70)?;
    for ServerfarmReply { name, predictor, nat_server, nat_client, reals, operational, probes } in farms {
        let nat = match (nat_server, nat_client) {
            (true, None) => "S",
            (true, Some(_)) => "S,C",
            (false, Some(_)) => "C",
            (false, None) => "none",
        };
        // The CSM's columns for what this product does not have: no redirects, bind id 0.
        writeln!(out, "{name:<16} SLB      {predictor:<12} {nat:<5} {reals:<7} 0         0")?;
        let probes = if probes.is_empty() { "none".to_owned() } else { probes.join(" ") };
        writeln!(out, "                 {operational} of {reals} reals operational, probes: {probes}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn listing() {
        let web = ServerfarmReply {
            name: "WEB".to_owned(),
            predictor: "RoundRobin".to_owned(),
            nat_server: true,
            nat_client: None,
            reals: 3,
            operational: 2,
            probes: vec!["ICMP".to_owned(), "TCP".to_owned()],
        };
        let bare =
            ServerfarmReply { name: "BARE".to_owned(), nat_server: false, probes: Vec::new(), ..web.clone() };
        let mut text = String::new();
        write(&mut text, &[web, bare]).expect("a string takes everything");
        expect![[r#"
            server farm      type     predictor    nat   reals   redirect  bind id
            ----------------------------------------------------------------------
            WEB              SLB      RoundRobin   S     3       0         0
                             2 of 3 reals operational, probes: ICMP TCP
            BARE             SLB      RoundRobin   none  3       0         0
                             2 of 3 reals operational, probes: none
        "#]]
        .assert_eq(&text);
    }
}
