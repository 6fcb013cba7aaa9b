use super::*;

const NATIVE: u64 = XDP_BASIC | XDP_REDIRECT | XDP_XMIT;

fn port(name: &str, driver: &str, xdp: Option<u64>) -> PortFacts {
    PortFacts {
        name: name.to_owned(),
        present: true,
        driver: Some(driver.to_owned()),
        up: true,
        carrier: true,
        mtu: 1500,
        rx_queues: 4,
        xdp,
        attached: 0,
    }
}

fn facts(ports: Vec<PortFacts>) -> Facts {
    Facts {
        release: "6.12.41-amd64".to_owned(),
        build: "#1 SMP PREEMPT_DYNAMIC".to_owned(),
        missing_capabilities: Vec::new(),
        realtime: true,
        jit: Some(true),
        clocksource: Some("tsc".to_owned()),
        forwards: false,
        neighbours_max: [Some(1024), None],
        available_kib: Some(16 << 20),
        cpus: 4,
        ports,
    }
}

fn wish(name: &str, mode: XdpMode, ft: bool) -> PortWanted {
    PortWanted { name: name.to_owned(), mode, ft }
}

fn worst(facts: &Facts, wanted: &Wanted) -> (Grade, Vec<String>) {
    let findings = judge(facts, wanted);
    let worst = findings.iter().map(|finding| finding.grade).max().expect("findings");
    (
        worst,
        findings
            .into_iter()
            .filter(|f| f.grade == worst)
            .map(|f| format!("{}: {}", f.about, f.found))
            .collect(),
    )
}

#[test]
fn a_good_host_has_no_faults_and_no_warnings() {
    let wanted = Wanted { ports: vec![wish("eth1", XdpMode::Native, false)], failover: None, hosts: [0; 2] };
    let (grade, all) = worst(&facts(vec![port("eth1", "ice", Some(NATIVE))]), &wanted);
    assert_eq!(grade, Grade::Good, "{all:?}");
}

#[test]
fn each_shortcoming_of_the_host_is_named() {
    type Spoil = fn(&mut Facts);
    let cases: [(Spoil, Grade, &str); 9] = [
        (
            |f| f.release = "5.15.0-91".to_owned(),
            Grade::Fault,
            "kernel: Linux 5.15.0-91: the program is made for 6.1",
        ),
        (|f| f.release = "custom".to_owned(), Grade::Warning, "kernel: version \"custom\""),
        (|f| f.missing_capabilities = vec!["CAP_BPF"], Grade::Warning, "privileges: you lack CAP_BPF"),
        (
            |f| f.realtime = false,
            Grade::Warning,
            "scheduling: no real-time scheduling: failover times below 500 ms",
        ),
        (|f| f.build = "#1 SMP".to_owned(), Grade::Warning, "preemption: the kernel does not"),
        (|f| f.jit = Some(false), Grade::Warning, "compiler: BPF programs are interpreted"),
        (|f| f.clocksource = Some("hpet".to_owned()), Grade::Warning, "clock: the kernel's clock is hpet"),
        (|f| f.available_kib = Some(64 << 10), Grade::Fault, "memory: 64 MiB available"),
        (|f| f.forwards = true, Grade::Warning, "forwarding: the kernel forwards"),
    ];
    for (spoil, grade, text) in cases {
        let mut spoilt = facts(Vec::new());
        spoil(&mut spoilt);
        let (worst, found) = worst(&spoilt, &Wanted::default());
        assert_eq!((worst, found.len()), (grade, 1), "{text}: {found:?}");
        assert!(found[0].starts_with(text), "{text}: {found:?}");
    }
    let hasty = Wanted { failover: Some(Duration::from_millis(300)), ..Wanted::default() };
    let no_realtime = Facts { realtime: false, ..facts(Vec::new()) };
    assert_eq!(worst(&no_realtime, &hasty).0, Grade::Fault, "a failover time that would be refused");
    let many = |hosts| worst(&facts(Vec::new()), &Wanted { hosts, ..Wanted::default() });
    let (grade, found) = many([20_001, 20_001]);
    let text = "neighbours: 20001 ipv4 hosts are to be known by their MAC addresses; the kernel keeps 1024";
    assert_eq!((grade, found), (Grade::Fault, vec![text.to_owned()]), "of the other family it is not told");
    assert_eq!(many([1023, 0]).0, Grade::Good);
}

#[test]
fn a_driver_is_judged_by_what_the_kernel_says_and_else_by_its_name() {
    use XdpMode::{Auto, Generic, Native};
    let cases = [
        ("ice", Some(NATIVE), Native, Grade::Good, "native XDP with redirects (the kernel says)"),
        ("virtio_net", Some(XDP_BASIC | XDP_REDIRECT), Native, Grade::Good, "once the program is attached"),
        // Never a target of redirects, whatever is attached.
        ("mlx4_en", Some(XDP_BASIC | XDP_REDIRECT), Native, Grade::Fault, "no native XDP with redirects"),
        ("r8169", Some(0), Native, Grade::Fault, "no native XDP"),
        ("r8169", Some(0), Auto, Grade::Warning, "no native XDP"),
        ("r8169", Some(0), Generic, Grade::Warning, "generic XDP as configured"),
        ("ice", None, Native, Grade::Good, "by its name"),
        ("nfp", None, Native, Grade::Fault, "by its name"),
        ("r8169", None, Native, Grade::Warning, "does not tell"),
    ];
    for (driver, bits, mode, grade, text) in cases {
        let wanted = Wanted { ports: vec![wish("eth1", mode, false)], failover: None, hosts: [0; 2] };
        let findings = judge(&facts(vec![port("eth1", driver, bits)]), &wanted);
        let found = findings.iter().find(|f| f.about == "eth1").expect("of the port");
        assert_eq!(found.grade, grade, "{driver} {bits:?}: {found:?}");
        assert!(found.found.contains(text), "{driver} {bits:?}: {found:?}");
    }
}

#[test]
fn what_else_is_wrong_with_a_port_is_named() {
    type Spoil = fn(&mut PortFacts);
    let cases: [(Spoil, Grade, &str); 6] = [
        (|p| p.present = false, Grade::Fault, "eth1: there is no such interface"),
        (
            |p| p.mtu = 9000,
            Grade::Fault,
            "eth1: MTU 9000, but the driver has XDP for frames in one buffer only",
        ),
        (|p| p.up = false, Grade::Warning, "eth1: is down"),
        (|p| p.carrier = false, Grade::Warning, "eth1: has no carrier"),
        (|p| p.attached = 7, Grade::Warning, "eth1: XDP program 7 is attached"),
        (|p| p.rx_queues = 1, Grade::Warning, "eth1: has one receive queue"),
    ];
    let wanted = Wanted { ports: vec![wish("eth1", XdpMode::Native, false)], failover: None, hosts: [0; 2] };
    for (spoil, grade, text) in cases {
        let mut spoilt = port("eth1", "ice", Some(NATIVE));
        spoil(&mut spoilt);
        let (worst, found) = worst(&facts(vec![spoilt]), &wanted);
        assert_eq!((worst, found.len()), (grade, 1), "{text}: {found:?}");
        assert!(found[0].starts_with(text), "{text}: {found:?}");
    }
    let jumbo = PortFacts { mtu: 9000, ..port("eth1", "ice", Some(NATIVE | XDP_RX_SG | XDP_XMIT_SG)) };
    assert_eq!(worst(&facts(vec![jumbo.clone()]), &wanted).0, Grade::Good);
    // Before Linux 6.3, which neither tells of drivers nor redirects such frames.
    let old = PortFacts { xdp: None, ..jumbo };
    let (grade, found) = worst(&facts(vec![old.clone()]), &wanted);
    assert_eq!((grade, found.len()), (Grade::Warning, 1), "{found:?}");
    assert!(
        found[0].starts_with("eth1: MTU 9000: this kernel redirects no frames in several buffers"),
        "{found:?}"
    );
    let short = PortFacts { mtu: MTU_ONE_BUFFER, ..old.clone() };
    assert_eq!(worst(&facts(vec![short]), &wanted).0, Grade::Good);
    let generic = Wanted { ports: vec![wish("eth1", XdpMode::Generic, false)], ..wanted };
    let (_, found) = worst(&facts(vec![old]), &generic);
    assert!(found.iter().all(|found| found.contains("generic XDP as configured")), "{found:?}");
}

#[test]
fn an_ft_vlan_that_is_too_small_for_strays_is_named() {
    let wanted = Wanted {
        ports: vec![wish("eth1", XdpMode::Native, false), wish("eth9", XdpMode::Native, true)],
        failover: None,
        hosts: [0; 2],
    };
    let large = PortFacts { mtu: 3000, ..port("eth1", "ice", Some(NATIVE)) };
    let (grade, found) = worst(&facts(vec![large.clone(), port("eth9", "ice", Some(NATIVE))]), &wanted);
    assert_eq!((grade, found.len()), (Grade::Warning, 1), "{found:?}");
    assert!(found[0].starts_with("eth9: carries the FT VLAN with an MTU of 1500"), "{found:?}");
    let ft = PortFacts { mtu: 3000, ..port("eth9", "ice", Some(NATIVE)) };
    assert_eq!(worst(&facts(vec![large, ft]), &wanted).0, Grade::Good);
}
