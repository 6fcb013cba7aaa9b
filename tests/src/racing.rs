//! Two CPUs at once: frames given to a program by two threads, each on a CPU of its own, in step.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// BPF_PROG_TEST_RUN of linux/bpf.h.
const PROG_TEST_RUN: libc::c_int = 10;
/// XDP_REDIRECT of linux/bpf.h.
pub const REDIRECT: u32 = 4;

/// A frame, and the interface that receives it.
#[derive(Clone, Debug)]
pub struct Shot {
    /// Index of the interface.
    pub ifindex: u32,
    /// The frame.
    pub frame: Vec<u8>,
}

/// What became of a [`Shot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The XDP action.
    pub action: u32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

/// `union bpf_attr` for BPF_PROG_TEST_RUN (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

/// Runs `program` on `shot`, on the calling thread's CPU.
///
/// # Errors
/// Of the system call.
pub fn fire(program: RawFd, shot: &Shot) -> io::Result<Hit> {
    let length = u32::try_from(shot.frame.len()).map_err(io::Error::other)?;
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, length, 0, shot.ifindex, 0, 0_u32];
    let mut out = vec![0; shot.frame.len() + 64];
    let mut attr = TestRun {
        prog_fd: program.unsigned_abs(),
        data_size_in: length,
        data_size_out: u32::try_from(out.len()).map_err(io::Error::other)?,
        data_in: shot.frame.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat: 1,
        ctx_size_in: 24,
        ctx_in: context.as_ptr() as u64,
        ..TestRun::default()
    };
    // SAFETY: the inputs are as long as said, and so is the room for the frame.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, std::ptr::from_mut(&mut attr), size_of_val(&attr))
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    out.truncate(attr.data_size_out as usize);
    Ok(Hit { action: attr.retval, frame: out })
}

/// The first two CPUs that this process may use; the same twice if there is one only.
fn two_cpus() -> nix::Result<[usize; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let first = cpus.next().unwrap_or(0);
    Ok([first, cpus.next().unwrap_or(first)])
}

/// Puts the calling thread on `cpu` and before the threads of others: both must run for there to be a race.
fn settle_on(cpu: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    // SAFETY: plain numbers. A refusal costs nothing but time.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    Ok(())
}

/// Waits until the other has come as far: awake for a while, then in turn with others on this CPU.
fn wait_for(other: &AtomicUsize, round: usize) {
    let mut looks = 0_u32;
    while other.load(Ordering::Acquire) < round {
        looks += 1;
        if looks < 5_000 {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

/// Has two CPUs work on `rounds` rounds at once: `one(round)` beside `other(round)`, each round begun by both together, one of
/// them later by a little more than the round before, so that all moments of one meet all of the other. Gives what each
/// has returned.
///
/// # Panics
/// Where one of them does, or the CPUs cannot be had.
pub fn in_step<A: Send, B: Send>(
    rounds: usize,
    one: impl FnMut(usize) -> A + Send,
    other: impl FnMut(usize) -> B + Send,
) -> (Vec<A>, Vec<B>) {
    let [first, second] = two_cpus().expect("the process's CPUs");
    let arrived = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let [here, there] = &arrived;
    let (left, right) = std::thread::scope(|scope| {
        let left = scope.spawn(move || {
            take_part(first, [here, there], rounds, |round| (round % 32).saturating_sub(16), one)
        });
        let right = scope.spawn(move || {
            take_part(second, [there, here], rounds, |round| 16_usize.saturating_sub(round % 32), other)
        });
        (left.join().expect("a result"), right.join().expect("a result"))
    });
    match (left, right) {
        (Ok(left), Ok(right)) => (left, right),
        (Err(panic), _) | (_, Err(panic)) => std::panic::resume_unwind(panic),
    }
}

/// One's part: each round once the other has come as far, later by `late` of it.
fn take_part<T>(
    cpu: usize,
    [own, others]: [&AtomicUsize; 2],
    rounds: usize,
    late: fn(usize) -> usize,
    mut work: impl FnMut(usize) -> T,
) -> std::thread::Result<Vec<T>> {
    /// About a microsecond in all.
    const STEP: usize = 4;
    settle_on(cpu).expect("a CPU");
    let round = |round: usize| {
        own.store(round + 1, Ordering::Release);
        wait_for(others, round + 1);
        (0..late(round) * STEP).for_each(|_| std::hint::spin_loop());
        work(round)
    };
    let done =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (0..rounds).map(round).collect::<Vec<T>>()));
    // Whoever panics must not leave the other one waiting.
    own.store(usize::MAX, Ordering::Release);
    done
}

/// [`in_step`] with frames: shot `n` of one beside shot `n` of the other.
///
/// # Panics
/// As [`in_step`], and if the kernel refuses a run.
pub fn race(program: RawFd, one: &[Shot], other: &[Shot]) -> (Vec<Hit>, Vec<Hit>) {
    assert_eq!(one.len(), other.len(), "as many frames on either side");
    let fire = |shot| fire(program, shot).expect("a test run");
    in_step(one.len(), |round| fire(&one[round]), |round| fire(&other[round]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_come_to_each_round_together() {
        let counters = [AtomicUsize::new(0), AtomicUsize::new(0)];
        let turn = |own: usize| {
            let counters = &counters;
            move |round: usize| {
                let seen = counters[1 - own].load(Ordering::SeqCst);
                counters[own].fetch_add(1, Ordering::SeqCst);
                (round, seen)
            }
        };
        let (one, other) = in_step(500, turn(0), turn(1));
        for (round, seen) in one.into_iter().chain(other) {
            assert!(seen == round || seen == round + 1, "in round {round} the other had done {seen}");
        }
    }
}
