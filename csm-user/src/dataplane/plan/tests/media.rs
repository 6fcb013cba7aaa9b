//! `service rtsp`.

use super::*;
use csm_common::service::{MATCH_FTP, VSERVER_FTP};

#[test]
fn media_of_rtsp_are_looked_up_by_udp_from_the_client_and_from_the_one_real_of_any_port() {
    let mut config = figure_7_1();
    config.vservers[0].virtual_server.as_mut().unwrap().service = model::Service::Rtsp;
    let ip_be = wire::<u32>([192, 158, 39, 101].into());
    let media = |desired: &Desired| {
        let from = VserverKey { ip_be, port_be: 0, proto: 17, kind: MATCH_FTP };
        let origin = desired.contents.origins.get(&from);
        origin.map(|origin| (desired.vservers[&origin.vserver].name.to_string(), origin.port_be))
    };
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    let keys = desired.contents.vserver_keys.keys().filter(|key| key.kind == MATCH_FTP);
    assert_eq!(keys.map(|key| (key.proto, key.port_be)).collect::<Vec<_>>(), [(17, 0)]);
    assert_eq!(media(&desired), Some(("VIP1".into(), 0)), "the port stays as it is");
    assert_eq!(origin(&desired, 101, 80), Some(("VIP1".into(), 80)), "the control connection");
    assert_eq!(desired.contents.origins.len(), 6, "three reals");
    assert_ne!(desired.contents.vservers[&0].flags & VSERVER_FTP, 0);

    // A second one on the same reals: media may be either's. For any port of TCP they may not.
    let mut second = config.vservers[0].clone();
    second.name = name("VIP2");
    second.virtual_server.as_mut().unwrap().port = 8554;
    config.vservers.push(second);
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    assert_eq!(media(&desired), None);
    let to = config.vservers[1].virtual_server.as_mut().unwrap();
    (to.service, to.port) = (model::Service::Plain, 0);
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    assert_eq!(media(&desired), Some(("VIP1".into(), 0)));
    assert_eq!(origin(&desired, 101, 80), None);
    config.vservers[0].inservice = false;
    assert_eq!(media(&planned(&config, &HealthView::default(), &mut Assignments::default())), None);
}
