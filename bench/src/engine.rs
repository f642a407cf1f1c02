//! The two engines and the ground the service stands on: a temporary folder on a real disk, and for
//! PostgreSQL a private cluster with one fresh database per server.

use crate::Fallible;
use crate::postgres::Cluster;
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// One of the service's storage engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Embedded SQLite in the data folder.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

impl Engine {
    /// The engine's name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// Which engines to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineSet {
    /// SQLite only.
    Sqlite,
    /// PostgreSQL only.
    Postgres,
    /// One after the other.
    Both,
}

impl EngineSet {
    /// The engines of the set, in order.
    pub fn engines(self) -> &'static [Engine] {
        match self {
            Self::Sqlite => &[Engine::Sqlite],
            Self::Postgres => &[Engine::Postgres],
            Self::Both => &[Engine::Sqlite, Engine::Postgres],
        }
    }

    /// The set's name in the result's file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Both => "both",
        }
    }
}

/// Where one server keeps its data.
#[derive(Debug, Clone)]
pub struct Storage {
    /// The server's own folder: data, log, request files.
    pub folder: PathBuf,
    /// The PostgreSQL address, or none for SQLite in `folder/data`.
    pub database_url: Option<String>,
}

/// The ground of one engine for one run; dropping it stops and removes everything.
pub struct Bed {
    engine: Engine,
    // The cluster is dropped, and so stopped, before the folder is removed.
    cluster: Option<Cluster>,
    folder: TempDir,
}

impl Bed {
    /// Prepares the folder and, for PostgreSQL, starts a private cluster.
    pub async fn prepare(engine: Engine) -> Fallible<Self> {
        let folder = disk_folder()?;
        let cluster = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(Cluster::start().await?),
        };
        Ok(Self { engine, cluster, folder })
    }

    /// The engine this ground is for.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Fresh, empty storage for one server.
    pub async fn storage(&self, name: &str) -> Fallible<Storage> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(folder.join("data"))?;
        let database_url = match &self.cluster {
            None => None,
            Some(cluster) => Some(cluster.create_database(name).await?),
        };
        Ok(Storage { folder, database_url })
    }

    /// Removes what `storage` made, so that a later case does not share the disk with it.
    pub async fn discard(&self, name: &str) -> Fallible<()> {
        std::fs::remove_dir_all(self.folder.path().join(name))?;
        if let Some(cluster) = &self.cluster {
            cluster.drop_database(name).await?;
        }
        Ok(())
    }

    /// Processor time of the database's own processes so far, in microseconds; none for SQLite.
    pub fn database_cpu_micros(&self) -> Fallible<Option<u64>> {
        self.cluster.as_ref().map(Cluster::cpu_micros).transpose()
    }

    /// What the engine says of itself, such as `PostgreSQL 15.14`.
    pub fn version(&self) -> String {
        match &self.cluster {
            None => format!("SQLite {}", rusqlite::version()),
            Some(cluster) => cluster.version().to_owned(),
        }
    }
}

/// A temporary folder on a real disk: fsync costs nothing on tmpfs, and so measures nothing.
pub fn disk_folder() -> Fallible<TempDir> {
    let candidates = [std::env::temp_dir(), PathBuf::from("/var/tmp")];
    for parent in &candidates {
        if on_disk(parent) {
            return Ok(tempfile::Builder::new().prefix("user-service-bench-").tempdir_in(parent)?);
        }
    }
    Err("no temporary folder on a real disk: point TMPDIR at one".into())
}

fn on_disk(folder: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    // The field's type differs between architectures; its 32 bits do not.
    let kind = |stat: rustix::fs::StatFs| stat.f_type as u64 & 0xffff_ffff;
    rustix::fs::statfs(folder).is_ok_and(|stat| ![TMPFS, RAMFS].contains(&kind(stat)))
}
