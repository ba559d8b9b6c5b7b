-- The session file (.tt): one recording in one SQLite database. docs/session-format.md explains each
-- table to people who query it with the sqlite3 shell. Counters in *_sample rows are cumulative, so a
-- recording is thinned by deleting rows, and the difference of any two rows is right.
-- PRAGMA application_id = 0x74744c31 ("ttL1"), user_version = 1.
-- Times are nanoseconds of CLOCK_BOOTTIME unless a column says wall.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  -- tool_version, host, kernel, machine, libc, command (JSON array), mode, started_wall, started_ns,
  -- ended_ns, exit_status, horizon_s, ticks_per_second, origin_ns, finished (0 while recording)

CREATE TABLE label (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  -- telltale run --label owners=4: covariates that people give a run

CREATE TABLE process (id INTEGER PRIMARY KEY, pid INTEGER, parent INTEGER, exe TEXT, build_id TEXT,
  exe_size INTEGER, exe_mtime INTEGER, cmdline TEXT, started_ns INTEGER, ended_ns INTEGER,
  exit_status INTEGER, state TEXT, reason TEXT, mode TEXT, allocator TEXT, granule INTEGER,
  sample_mean INTEGER, libc TEXT);

CREATE TABLE module (process INTEGER, start INTEGER, end INTEGER, file_offset INTEGER, path TEXT,
  build_id TEXT, file_size INTEGER, mtime INTEGER, since_ns INTEGER, until_ns INTEGER);
  -- executable mappings; start/end/file_offset as in /proc/PID/maps

CREATE TABLE stack (process INTEGER, id INTEGER, cut INTEGER, frames BLOB NOT NULL,
  PRIMARY KEY (process, id)) WITHOUT ROWID;
  -- little-endian u64 return addresses, innermost first (first = the caller of malloc)

CREATE TABLE site (process INTEGER, id INTEGER, resource TEXT NOT NULL, stack INTEGER, thin INTEGER,
  size_min INTEGER, size_max INTEGER, PRIMARY KEY (process, id)) WITHOUT ROWID;
  -- thin: each birth counted stands for 2^thin births

CREATE TABLE epoch (id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL);

CREATE TABLE site_sample (process INTEGER, site INTEGER, epoch INTEGER, births INTEGER,
  birth_bytes INTEGER, deaths INTEGER, death_bytes INTEGER,
  PRIMARY KEY (process, site, epoch)) WITHOUT ROWID;
  -- a row only when something changed since the site's last row; always a first and a last one

CREATE TABLE site_death (process INTEGER, site INTEGER, bin INTEGER, count INTEGER,
  PRIMARY KEY (process, site, bin)) WITHOUT ROWID;
  -- deaths by age: half-octave bins of ticks (tape.h tt_tape_bin)

CREATE TABLE survivor (process INTEGER, site INTEGER, size INTEGER, tick INTEGER, count INTEGER,
  PRIMARY KEY (process, site, size, tick)) WITHOUT ROWID;
  -- live units at the last look (meta look_ns of the process in process_look), by birth tick and
  -- requested size; per site at most 4096 rows: beyond, birth ticks and then sizes are coarsened

CREATE TABLE process_look (process INTEGER PRIMARY KEY, at_ns INTEGER, tick INTEGER, consistent INTEGER,
  final INTEGER);
  -- consistent: births - deaths = survivors for every site; final: made after the process had ended

CREATE TABLE release (process INTEGER, site INTEGER, by_stack INTEGER, samples INTEGER, weight INTEGER,
  last_ns INTEGER, PRIMARY KEY (process, site, by_stack)) WITHOUT ROWID;

CREATE TABLE release_age (process INTEGER, site INTEGER, age INTEGER, samples INTEGER, weight INTEGER,
  PRIMARY KEY (process, site, age)) WITHOUT ROWID;
  -- exact ages (ticks) of sampled releases, at most 1024 distinct per site

CREATE TABLE operation (process INTEGER, id INTEGER, name TEXT, function TEXT, address INTEGER, source TEXT,
  since_ns INTEGER, PRIMARY KEY (process, id)) WITHOUT ROWID;
  -- source: 'declared' (--operation NAME=FUNCTION) or 'stack' (a function on a surviving site's stack)

CREATE TABLE operation_sample (process INTEGER, operation INTEGER, epoch INTEGER, count INTEGER,
  PRIMARY KEY (process, operation, epoch)) WITHOUT ROWID;

CREATE TABLE proc_sample (process INTEGER, epoch INTEGER, rss_anon INTEGER, rss_file INTEGER,
  heap_live INTEGER, heap_held INTEGER, fds INTEGER, threads INTEGER, vm_size INTEGER, cpu_ms INTEGER,
  PRIMARY KEY (process, epoch)) WITHOUT ROWID;
  -- bytes; heap_live: followed live requested bytes; heap_held: resident anonymous memory of the mappings that hold heap blocks

CREATE TABLE limit_value (process INTEGER, name TEXT, value INTEGER, PRIMARY KEY (process, name)) WITHOUT ROWID;
  -- RLIMIT_NOFILE, RLIMIT_AS, cgroup memory.max, pids.max, ... ; -1 unlimited

CREATE TABLE dropped (process INTEGER, what TEXT, count INTEGER, PRIMARY KEY (process, what)) WITHOUT ROWID;

CREATE TABLE symbol (process INTEGER, address INTEGER, position INTEGER, function TEXT, module TEXT,
  file TEXT, line INTEGER, inlined INTEGER, PRIMARY KEY (process, address, position)) WITHOUT ROWID;
  -- filled by `report` (or at the end of `run`) for the stacks that matter, so that a session can be read
  -- where the binaries are not; position 0 = innermost inlined frame
