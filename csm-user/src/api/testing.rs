//! A daemon made of plain values, for tests of both sides of the API.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::backend::{Backend, ClearBackend, ConfigBackend, Fault, StateBackend, SyncBackend};
use super::reply::{
    CertifyRequest, CopyReply, CopyState, DirectoryReply, ImageReply, ReloadRequest, SavedReply,
    StateDirectory,
};
use super::reply::{
    ChangeReply, ChangeRequest, ClearedReply, ConnFilter, ConnReply, ConnState, ConnsReply, CountersReply,
    Endpoint, FtReply, NeighbourReply, Protocol, RealReply, RealState, RunningConfigReply, ServerfarmReply,
    StandbyReply, StickiesReply, StickyFilter, SystemReply, TraceQuery, VlanReply, VserverReply, WalkReply,
};
use super::reply::{CheckGrade, CheckReply, ExplainReply, ReadyReply};
use super::server;

/// The answers.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    /// Whether `force_standby` was carried out.
    pub(crate) forced: AtomicBool,
    /// Whether the peer could take the role.
    pub(crate) peer: AtomicBool,
}

impl Backend for Fake {
    fn system(&self) -> Result<SystemReply, Fault> {
        Ok(SystemReply { module: 5, version: "0.1.0".to_owned(), pid: 4711, uptime_s: 60 })
    }

    fn ft(&self) -> Result<Option<FtReply>, Fault> {
        Ok(None)
    }

    fn readiness(&self) -> Result<ReadyReply, Fault> {
        let found = "no peer is heard".to_owned();
        let about = "pair".to_owned();
        let check = CheckReply { grade: CheckGrade::Missing, about, found, remedy: None };
        let ready = self.peer.load(Ordering::Relaxed);
        Ok(ReadyReply { ready, checks: if ready { Vec::new() } else { vec![check] } })
    }

    fn explain(&self) -> Result<Option<ExplainReply>, Fault> {
        Ok(None)
    }

    fn force_standby(&self) -> Result<(), Fault> {
        if !self.peer.load(Ordering::Relaxed) {
            return Err(Fault::Refused {
                error: "no peer is heard".to_owned(),
                remedy: Some("start the other node".to_owned()),
            });
        }
        self.forced.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn trace(&self, query: &TraceQuery) -> Result<Vec<WalkReply>, Fault> {
        let packet = || WalkReply {
            at_ns: 7,
            vlan: Some(2),
            octets: 60,
            came: None,
            before: None,
            after: None,
            left: None,
            to_mac: None,
            reason: query.vserver.clone().unwrap_or_default(),
            verdict: super::reply::Verdict::Drop,
        };
        Ok(vec![packet(), packet(), packet()])
    }

    fn vservers(&self) -> Result<Vec<VserverReply>, Fault> {
        Err(Fault::Internal("map VSERVER_COUNTS cannot be read".to_owned()))
    }

    fn reals(&self) -> Result<Vec<RealReply>, Fault> {
        Ok(vec![RealReply {
            address: Ipv4Addr::new(192, 158, 39, 101).into(),
            port: None,
            serverfarm: "WEB".to_owned(),
            weight: 0,
            admin_weight: 8,
            max_connections: None,
            min_connections: None,
            state: RealState::ProbeFailed,
            reason: Some("probe TCP port 80: connection refused".to_owned()),
            connections: Some(3),
            total_connections: 4,
            client_packets: 5,
            server_packets: 6,
        }])
    }

    fn serverfarms(&self) -> Result<Vec<ServerfarmReply>, Fault> {
        panic!("a fault of the daemon");
    }

    /// Two pages, each with one connection of the vserver and client that were asked for.
    fn conns(&self, filter: &ConnFilter, after: Option<&str>) -> Result<ConnsReply, Fault> {
        let client = filter.client.unwrap_or(Ipv4Addr::new(100, 100, 100, 2).into());
        let at = |address, port| Endpoint { address, port };
        let conn = ConnReply {
            protocol: Protocol::Tcp,
            client: at(client, 1754),
            destination: at(Ipv4Addr::new(192, 158, 38, 30).into(), 80),
            real: at(
                filter.real.unwrap_or(Ipv4Addr::new(192, 158, 39, 101).into()),
                filter.port.unwrap_or(80),
            ),
            source: at(client, 1754),
            client_vlan: 2,
            server_vlan: 3,
            state: ConnState::Estab,
            vserver: filter.vserver.clone(),
            ftp: false,
            replicated: true,
            replica: false,
            idle_s: Some(4),
        };
        let next = after.is_none().then(|| "e&1".to_owned());
        assert!(after.is_none_or(|after| after == "e&1"), "{after:?}");
        Ok(ConnsReply { connections: vec![conn], next })
    }

    fn clear_conns(&self, filter: &ConnFilter) -> Result<ClearedReply, Fault> {
        Ok(ClearedReply { cleared: u64::from(filter.port.unwrap_or(1)) })
    }

    fn sticky(&self) -> Result<StickiesReply, Fault> {
        Ok(StickiesReply { total: 0, entries: Vec::new() })
    }

    fn standby(&self) -> Result<Vec<StandbyReply>, Fault> {
        Ok(Vec::new())
    }

    fn vlans(&self) -> Result<Vec<VlanReply>, Fault> {
        Ok(Vec::new())
    }

    fn neighbours(&self) -> Result<Vec<NeighbourReply>, Fault> {
        Ok(Vec::new())
    }

    fn counters(&self) -> Result<CountersReply, Fault> {
        Ok(CountersReply::default())
    }
}

impl ClearBackend for Fake {
    fn clear_counters(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn clear_sticky(&self, filter: &StickyFilter) -> Result<ClearedReply, Fault> {
        Ok(ClearedReply { cleared: filter.group.map_or(0, u64::from) })
    }

    fn clear_neighbours(&self) -> Result<(), Fault> {
        Ok(())
    }
}

impl SyncBackend for Fake {
    fn sync_config(&self) -> Result<super::reply::SyncReply, Fault> {
        Ok(super::reply::SyncReply { messages: vec!["started".to_owned()], peer_reloads: false })
    }

    fn sync_differences(&self) -> Result<Vec<super::reply::DifferenceReply>, Fault> {
        Ok(Vec::new())
    }
}

impl StateBackend for Fake {
    fn write_memory(&self) -> Result<SavedReply, Fault> {
        Ok(SavedReply { checksum: "00".to_owned(), certified: false })
    }

    fn set_startup(&self, _: &ChangeRequest) -> Result<SavedReply, Fault> {
        Ok(SavedReply { checksum: "00".to_owned(), certified: false })
    }

    fn certify(&self, _: CertifyRequest) -> Result<SavedReply, Fault> {
        Ok(SavedReply { checksum: "00".to_owned(), certified: true })
    }

    fn directory(&self) -> Result<DirectoryReply, Fault> {
        Ok(DirectoryReply {
            module: 5,
            primary: true,
            pair: true,
            booted: Some(StateDirectory::Working),
            working: CopyState::Whole,
            certified: CopyState::Absent,
            certify_needed: true,
            saved: true,
            peer_in_sync: None,
            running: "csmd 0.1.0 layout 1".to_owned(),
            working_copy: CopyReply { shared_checksum: Some("00".to_owned()), image: None },
            certified_copy: CopyReply { shared_checksum: None, image: None },
            peer: None,
            differing: None,
            reload_in_s: None,
            rollback_in_s: None,
        })
    }

    fn set_image(&self, octets: &[u8]) -> Result<ImageReply, Fault> {
        let version = "csmd 0.2.0 layout 1".to_owned();
        Ok(ImageReply { checksum: "00".to_owned(), octets: octets.len() as u64, version })
    }

    fn drop_image(&self) -> Result<SavedReply, Fault> {
        Ok(SavedReply { checksum: "00".to_owned(), certified: true })
    }

    fn cancel_reload(&self) -> Result<(), Fault> {
        Err(Fault::Refused { error: "no reload waits".to_owned(), remedy: None })
    }

    fn startup_config(&self) -> Result<RunningConfigReply, Fault> {
        Err(Fault::Refused { error: "nothing is saved yet".to_owned(), remedy: None })
    }

    fn reload(&self, _: ReloadRequest) -> Result<(), Fault> {
        Ok(())
    }
}

impl ConfigBackend for Fake {
    fn running_config(&self) -> Result<RunningConfigReply, Fault> {
        Ok(RunningConfigReply { text: "module csm 5\n vlan 2 client\n".to_owned() })
    }

    fn change_config(&self, request: &ChangeRequest) -> Result<ChangeReply, Fault> {
        match request.text.as_str() {
            "frobnicate\n" => {
                Err(Fault::Rejected { errors: 1, report: "terminal:1:1: error: no\n".to_owned() })
            }
            _ => Ok(ChangeReply {
                findings: String::new(),
                differences: Vec::new(),
                revert_in_s: request.revert_s.map(u64::from),
            }),
        }
    }

    fn confirm_config(&self) -> Result<(), Fault> {
        Err(Fault::Refused { error: "no change waits to be confirmed".to_owned(), remedy: None })
    }
}

/// A directory of its own, removed on drop.
#[derive(Debug)]
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("csm-api-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("csmd.sock")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the directory is ours");
    }
}

/// A server on a socket of its own.
pub(crate) struct Served {
    pub(crate) backend: Arc<Fake>,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<std::io::Result<()>>,
    pub(crate) dir: Dir,
}

impl Served {
    pub(crate) fn start() -> Self {
        let (dir, backend) = (Dir::new(), Arc::new(Fake::default()));
        let listener = server::bind(&dir.socket()).expect("a free path");
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            // Either way it is the end: told so, or the test is over.
            let _ = stopped.await;
        };
        let task = tokio::spawn(server::serve(listener, backend.clone(), shutdown));
        Self { backend, stop, task, dir }
    }
}
