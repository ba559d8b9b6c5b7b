-- The session file (.tt): one recording in one SQLite database. docs/session-format.md explains each
-- table to people who query it with the sqlite3 shell. Counters in *_sample rows are cumulative, so a
-- recording is thinned by deleting rows, and the difference of any two rows is right.
-- PRAGMA application_id = 0x74744c31 ("ttL1"), user_version = 3 (1: without the tables from `snapshot` on,
-- 2: without those from `site_place` on).
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
  -- source: 'declared' (--operation NAME=FUNCTION) or 'stack' (a function on a surviving site's stack);
  -- 'refused: why' or 'stack, refused: why' when it could not be counted

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

-- Since schema 2: frozen copies of a process, or a core file, searched for blocks that nothing points to.

CREATE TABLE snapshot (process INTEGER, id INTEGER, at_ns INTEGER, tick INTEGER, source TEXT, allocator TEXT,
  stop_ns INTEGER, fork_ns INTEGER, scan_ns INTEGER, blocks INTEGER, bytes INTEGER, lost_units INTEGER,
  lost_bytes INTEGER, lost_roots INTEGER, old_units INTEGER, unknown_units INTEGER, unread_bytes INTEGER,
  doubt_bytes INTEGER, tagged INTEGER, groups_left_out INTEGER, PRIMARY KEY (process, id)) WITHOUT ROWID;
  -- source: 'copy' or 'core'; stop_ns: the target stood still, of it fork_ns in clone(2); lost: unreachable blocks;
  -- old: born before attach; unknown: old and not attributable to a site; tagged: words that would point to a lost
  -- block if tag bits were cleared

CREATE TABLE lost_group (process INTEGER, snapshot INTEGER, id INTEGER, fingerprint INTEGER, size_min INTEGER,
  size_max INTEGER, units INTEGER, bytes INTEGER, roots INTEGER, hung_units INTEGER, hung_bytes INTEGER,
  unknown_units INTEGER, unknown_bytes INTEGER, shape TEXT, samples TEXT,
  PRIMARY KEY (process, snapshot, id)) WITHOUT ROWID;
  -- usable bytes; hung: other lost blocks that hang on this group's roots; samples: addresses, hex, by spaces

CREATE TABLE lost_share (process INTEGER, snapshot INTEGER, grp INTEGER, site INTEGER, known_units INTEGER,
  known_bytes INTEGER, old_units INTEGER, old_bytes INTEGER, probability REAL,
  PRIMARY KEY (process, snapshot, grp, site)) WITHOUT ROWID;
  -- known: the live table names the site; old: attributed by fingerprint, one unit with that probability

CREATE TABLE holder (process INTEGER, snapshot INTEGER, id INTEGER, place TEXT, path TEXT, site INTEGER,
  units INTEGER, bytes INTEGER, PRIMARY KEY (process, snapshot, id)) WITHOUT ROWID;
  -- who holds what can be reached: units and bytes that would be free without it; site: that made the holding block

CREATE TABLE held (process INTEGER, snapshot INTEGER, holder INTEGER, site INTEGER, units INTEGER, bytes INTEGER,
  PRIMARY KEY (process, snapshot, holder, site)) WITHOUT ROWID;

CREATE TABLE stale (process INTEGER, site INTEGER, epochs INTEGER, objects INTEGER, untouched INTEGER,
  untouched_bytes INTEGER, untouched_weight REAL, seconds REAL, PRIMARY KEY (process, site)) WITHOUT ROWID;
  -- sampled objects with a page of their own, at the latest epoch: how many lived through the last `epochs`
  -- epochs (together `seconds`), and how many of these were neither read nor written in them; weight: blocks
  -- that the untouched stand for

CREATE TABLE attach (process INTEGER PRIMARY KEY, at_ns INTEGER, start_ns INTEGER, stop_ns INTEGER,
  detached_ns INTEGER, detach_stop_ns INTEGER, entries INTEGER, slots INTEGER, kept INTEGER, notes TEXT);
  -- a process that ran before it was recorded: what attaching and detaching cost it, what could not be hooked

-- Since schema 3: what is held besides heap blocks (site.resource is not 'heap'), and on whose behalf.

CREATE TABLE site_place (process INTEGER, site INTEGER, place TEXT, PRIMARY KEY (process, site)) WITHOUT ROWID;
  -- of a site that has no stack because nothing was seen to acquire its units: 'socket: open before the recording began'

CREATE TABLE owner (process INTEGER, id INTEGER, how TEXT, fd INTEGER, address TEXT, pid INTEGER, exe TEXT, uid INTEGER,
  began_ns INTEGER, ended_ns INTEGER, PRIMARY KEY (process, id)) WITHOUT ROWID;
  -- the peer for whom a thread worked when it acquired a unit; how: 'connection' or 'sender' (of datagrams); only owners
  -- of units that live, and of ended ones those that left units

CREATE TABLE site_owner (process INTEGER, site INTEGER, owner INTEGER, units INTEGER,
  PRIMARY KEY (process, site, owner)) WITHOUT ROWID;
  -- live units at the last look; owner 0: acquired for nobody that is known

CREATE TABLE clock_survivor (process INTEGER, site INTEGER, clock TEXT, tick INTEGER, count INTEGER,
  PRIMARY KEY (process, site, clock, tick)) WITHOUT ROWID;
  -- live units at the last look by the tick at which a second clock started: 'owner end' when the peer for whom they
  -- were acquired went away, 'CLOSE_WAIT' when a socket was first seen in that state

CREATE TABLE clock_death (process INTEGER, site INTEGER, clock TEXT, bin INTEGER, count INTEGER,
  PRIMARY KEY (process, site, clock, bin)) WITHOUT ROWID;
  -- units released after that clock had started, by their age on it: half-octave bins of ticks

CREATE TABLE site_with (process INTEGER, site INTEGER, other INTEGER, units INTEGER,
  PRIMARY KEY (process, site, other)) WITHOUT ROWID;
  -- live units of site that go when one of other is closed: a port with its socket, a descriptor with its stream

CREATE TABLE resource_sample (process INTEGER, epoch INTEGER, resource TEXT, held INTEGER, counted INTEGER,
  PRIMARY KEY (process, epoch, resource)) WITHOUT ROWID;
  -- held: units of all sites; counted: what the kernel says there are, NULL where it does not tell

CREATE TABLE descriptor (process INTEGER, fd INTEGER, what TEXT, site INTEGER, owner INTEGER, tick INTEGER, state TEXT,
  peer TEXT, PRIMARY KEY (process, fd)) WITHOUT ROWID;
  -- /proc/PID/fd when it was last read, written at the end, at most 65536 rows; tick: acquired

CREATE TABLE watch (process INTEGER, id INTEGER, function TEXT, resource TEXT, address INTEGER, calls INTEGER, source TEXT,
  PRIMARY KEY (process, id)) WITHOUT ROWID;
  -- source: 'kind', 'declared', 'owner', or 'refused: ...'
