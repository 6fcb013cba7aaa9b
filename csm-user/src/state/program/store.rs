//! Shell: the files of programs, each named after its checksum. One that has its name is whole; what is still coming has
//! another, and goes on where it stopped.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::{Digest, OCTETS_MAX, PART, Program, is_description};
use crate::state::cut;

/// Below the state directory.
const DIRECTORY: &str = "images";
/// How long a program may take to say what it is.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Between two looks at whether it has.
const PACE: Duration = Duration::from_millis(10);
/// Octets of its answer that are read.
const ANSWER_OCTETS: u64 = 4096;

/// Why a file is not taken for a program.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is not what it is said to be.
    #[error("the image is damaged: its checksum is not {0}")]
    Damaged(Digest),
    /// It does not say that it is csmd.
    #[error("the image does not prove to be a csmd that can be started: {0}")]
    NotACsmd(String),
    /// Larger than [`OCTETS_MAX`].
    #[error("an image has at most {OCTETS_MAX} octets")]
    TooLarge,
    /// A system call.
    #[error("the image: {0}")]
    Io(#[from] io::Error),
}

/// The programs of a state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs(PathBuf);

/// One step from octets that are all there to a program that may be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The octets are those of the name.
    Checksum,
    /// It can be executed, by its owner.
    Mode,
    /// It says that it is csmd.
    Identify,
    /// Its octets are on the disk.
    SyncFile,
    /// It has its name.
    Rename,
    /// Its name is on the disk.
    SyncDirectory,
}

/// In this order.
const STEPS: [Step; 6] =
    [Step::Checksum, Step::Mode, Step::Identify, Step::SyncFile, Step::Rename, Step::SyncDirectory];

impl Programs {
    /// Those below the state directory `state`.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self(state.join(DIRECTORY))
    }

    /// The file of a program that is whole.
    #[must_use]
    pub fn file(&self, digest: Digest) -> PathBuf {
        self.0.join(digest.to_string())
    }

    fn part(&self, digest: Digest) -> PathBuf {
        self.0.join(format!("{digest}.part"))
    }

    /// How many octets of a program are here, from its first on; all of them if it is whole.
    ///
    /// # Errors
    /// If files cannot be read.
    pub fn held(&self, digest: Digest, octets: u64) -> io::Result<u64> {
        let file = self.file(digest);
        if file.is_file() {
            if checksum(&file)? == digest {
                return Ok(octets);
            }
            // Nothing but the disk can have done this.
            fs::remove_file(&file)?;
        }
        match fs::metadata(self.part(digest)) {
            // More than there is to come cannot be its beginning.
            Ok(part) => Ok(if part.len() > octets { 0 } else { part.len() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Adds a part of a program behind the first `at` octets; returns how many there are then. At 0 it is begun anew, and
    /// whatever else had begun is let go.
    ///
    /// # Errors
    /// If there are not so many octets, there would be too many, or of a system call.
    pub fn append(&self, digest: Digest, at: u64, octets: &[u8]) -> Result<u64, Unfit> {
        let more = at.checked_add(octets.len() as u64).filter(|more| *more <= OCTETS_MAX);
        let more = more.ok_or(Unfit::TooLarge)?;
        if !self.0.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        }
        if at == 0 {
            self.remove(|name| name.ends_with(".part"))?;
        }
        let mut part = File::options().write(true).create(at == 0).mode(0o600).open(self.part(digest))?;
        if part.metadata()?.len() < at {
            return Err(io::Error::other(format!("it has fewer than {at} octets yet")).into());
        }
        part.set_len(at)?;
        cut::step();
        part.seek(SeekFrom::Start(at))?;
        part.write_all(octets)?;
        Ok(more)
    }

    /// All octets of a program have come: it is checked, asked what it is, and can be named from now on.
    ///
    /// # Errors
    /// See [`Unfit`]; what has come is let go if it is not what it should be.
    pub fn admit(&self, digest: Digest) -> Result<Program, Unfit> {
        let mut version = None;
        if !self.file(digest).is_file() {
            for step in STEPS {
                if let Err(error) = self.carry_out(step, digest, &mut version) {
                    if matches!(error, Unfit::Damaged(_) | Unfit::NotACsmd(_)) {
                        fs::remove_file(self.part(digest))?;
                    }
                    return Err(error);
                }
            }
        }
        let file = self.file(digest);
        let version = version.map_or_else(|| identify(&file, None), Ok)?;
        Ok(Program { digest, octets: fs::metadata(file)?.len(), version })
    }

    fn carry_out(&self, step: Step, digest: Digest, version: &mut Option<String>) -> Result<(), Unfit> {
        let part = self.part(digest);
        cut::step();
        match step {
            Step::Checksum if checksum(&part)? != digest => return Err(Unfit::Damaged(digest)),
            Step::Checksum => {}
            Step::Mode => fs::set_permissions(&part, fs::Permissions::from_mode(0o700))?,
            Step::Identify => *version = Some(identify(&part, None)?),
            Step::SyncFile => File::open(&part)?.sync_all()?,
            Step::Rename => fs::rename(&part, self.file(digest))?,
            Step::SyncDirectory => File::open(&self.0)?.sync_all()?,
        }
        Ok(())
    }

    /// The file of a program that can be executed now, with the configuration of `config`, if one is named.
    ///
    /// # Errors
    /// If it is not there, damaged, or does not take the configuration.
    pub fn proven(&self, digest: Digest, config: Option<&Path>) -> Result<PathBuf, Unfit> {
        let file = self.file(digest);
        if checksum(&file)? != digest {
            return Err(Unfit::Damaged(digest));
        }
        if let Some(config) = config {
            let _version = identify(&file, Some(config))?;
        }
        Ok(file)
    }

    /// A part of a whole program, [`PART`] octets from `at` on, or what there is.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, digest: Digest, at: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.file(digest))?;
        file.seek(SeekFrom::Start(at))?;
        let mut octets = Vec::with_capacity(PART);
        file.take(PART as u64).read_to_end(&mut octets)?;
        Ok(octets)
    }

    /// Lets go all whole programs but those to `keep`.
    ///
    /// # Errors
    /// Of a system call.
    pub fn keep_only(&self, keep: &[Digest]) -> io::Result<()> {
        let kept: Vec<_> = keep.iter().map(ToString::to_string).collect();
        self.remove(|name| !name.ends_with(".part") && !kept.iter().any(|kept| kept == name))
    }

    fn remove(&self, which: impl Fn(&str) -> bool) -> io::Result<()> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(&which) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn checksum(file: &Path) -> io::Result<Digest> {
    let (mut file, mut sum) = (File::open(file)?, Sha256::new());
    let mut octets = vec![0; PART];
    loop {
        match file.read(&mut octets)? {
            0 => return Ok(Digest(sum.finalize().into())),
            read => sum.update(&octets[..read]),
        }
    }
}

/// What a program says of itself, and, if a configuration is named, that it can be started with it. It gets neither input,
/// nor this process's environment, nor more than [`ANSWER_MAX`].
///
/// # Errors
/// If it cannot be executed, says nothing of the kind in time, or does not take the configuration.
pub fn identify(program: &Path, config: Option<&Path>) -> Result<String, Unfit> {
    let mut command = Command::new(program);
    command.arg("--identify").env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    let mut child = start(&mut command)?;
    let Some(status) = ended(&mut child)? else {
        child.kill()?;
        child.wait()?;
        return Err(Unfit::NotACsmd(format!("it said nothing within {} s", ANSWER_MAX.as_secs())));
    };
    let said = said(child.stdout.take())?;
    match said.strip_suffix('\n').filter(|said| status.success() && is_description(said)) {
        Some(said) => Ok(said.to_owned()),
        None => {
            let error = self::said(child.stderr.take())?;
            let first = error.lines().find(|line| !line.trim().is_empty()).unwrap_or("it does not say why");
            Err(Unfit::NotACsmd(format!("{status}: {first}")))
        }
    }
}

fn start(command: &mut Command) -> Result<Child, Unfit> {
    let deadline = Instant::now() + ANSWER_MAX;
    loop {
        match command.spawn() {
            Ok(child) => return Ok(child),
            // Another thread, just about to execute something else, still has the file open for writing.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                std::thread::sleep(PACE);
            }
            Err(error) => return Err(Unfit::NotACsmd(error.to_string())),
        }
    }
}

fn ended(child: &mut Child) -> io::Result<Option<std::process::ExitStatus>> {
    let deadline = Instant::now() + ANSWER_MAX;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(PACE);
    }
    Ok(None)
}

fn said(stream: Option<impl Read>) -> io::Result<String> {
    let mut octets = Vec::new();
    if let Some(stream) = stream {
        stream.take(ANSWER_OCTETS).read_to_end(&mut octets)?;
    }
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

#[cfg(test)]
mod tests;
