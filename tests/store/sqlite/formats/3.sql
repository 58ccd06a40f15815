-- A store as pullstatus 0.2.0 wrote it before entries were followed, in format 3: a mailbox of five
-- records, of which two were removed, one was handed out since and one is a copy of a removed one.
-- Dumped by Python's sqlite3.
PRAGMA page_size = 4096;
BEGIN TRANSACTION;
CREATE TABLE act (
    id          INTEGER PRIMARY KEY,
    ticket      BLOB UNIQUE,            -- by which the operations of one act know it, or NULL
    at_ms       INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    action      TEXT NOT NULL,
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL,          -- JSON; no number, no text, no key
    hash        BLOB NOT NULL           -- see `store.acts`
) STRICT;
INSERT INTO "act" VALUES(1,X'05050505050505050505050505050505',1800000000010,'me','redeliver','lost','{}',X'8A2FDE814FB3B63600A6B11AF949208FE71BD5E40FFFFD0B5C4CCED536A1D5C2');
CREATE TABLE again (
    key         INTEGER NOT NULL,       -- mailbox id << 40 | first seq
    count       INTEGER NOT NULL,
    source_seq  INTEGER NOT NULL,       -- number of the first original; its own if restored
    act_id    INTEGER NOT NULL,       -- the act that did it
    PRIMARY KEY (key, act_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "again" VALUES(1099511627781,1,2,1);
CREATE TABLE chunk (
    key         INTEGER PRIMARY KEY,    -- mailbox id << 40 | first seq
    count       INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    checksum    INTEGER NOT NULL,       -- over key, bounds and body
    bounds      BLOB NOT NULL,          -- count sizes, then count checksums; 4 bytes each
    body        BLOB NOT NULL           -- the entries joined by commas
, tickets BLOB) STRICT;
INSERT INTO "chunk" VALUES(1099511627779,2,1800003600000,9217267086584587646,X'A7000000A7000000D2D649152A0BAC60',X'7B22757365725F726563656976655F74696D65223A22323032362D30312D30322030333A30343A3035222C226E6174696F6E636F6465223A223836222C226D6F62696C65223A223133383030303030303033222C227265706F72745F737461747573223A2253554343455353222C226572726D7367223A2244454C49565244222C226465736372697074696F6E223A2264656C697665726564222C22736964223A22383A33227D2C7B22757365725F726563656976655F74696D65223A22323032362D30312D30322030333A30343A3035222C226E6174696F6E636F6465223A223836222C226D6F62696C65223A223133383030303030303034222C227265706F72745F737461747573223A2253554343455353222C226572726D7367223A2244454C49565244222C226465736372697074696F6E223A2264656C697665726564222C22736964223A22383A34227D',X'000202020202020202020202020202020202');
INSERT INTO "chunk" VALUES(1099511627781,1,1800003600001,7907736687112724287,X'A7000000C3348567',X'7B22757365725F726563656976655F74696D65223A22323032362D30312D30322030333A30343A3035222C226E6174696F6E636F6465223A223836222C226D6F62696C65223A223133383030303030303032222C227265706F72745F737461747573223A2253554343455353222C226572726D7367223A2244454C49565244222C226465736372697074696F6E223A2264656C697665726564222C22736964223A22383A32227D',X'000606060606060606060606060606060601');
CREATE TABLE epoch (
    number      INTEGER PRIMARY KEY,    -- 1, and one more with every restore
    began_ms    INTEGER NOT NULL
) STRICT;
INSERT INTO "epoch" VALUES(1,0);
CREATE TABLE fingerprint (
    slot        INTEGER NOT NULL,       -- the record's own time << 16 | 16 bits of its hash
    short       INTEGER NOT NULL,       -- the other 64 bits
    accepted_ms INTEGER NOT NULL,
    PRIMARY KEY (slot, short)
) STRICT, WITHOUT ROWID;
CREATE TABLE fingerprint_indexed (
    id          INTEGER PRIMARY KEY,    -- 1
    through     INTEGER NOT NULL        -- newest fingerprint_step of which `fingerprint` has all
) STRICT;
INSERT INTO "fingerprint_indexed" VALUES(1,0);
CREATE TABLE fingerprint_secret (
    id          INTEGER PRIMARY KEY,    -- 1
    value       BLOB NOT NULL           -- of this store; without it, no keys
) STRICT;
INSERT INTO "fingerprint_secret" VALUES(1,X'E17098C32A31EDC9AC646A6B2E1AEA0C9A7233E4BF47A4B41CE0A98683318B3A');
CREATE TABLE fingerprint_step (
    id          INTEGER PRIMARY KEY,
    accepted_ms INTEGER NOT NULL,
    keys        BLOB NOT NULL           -- slot and short of each, 8 bytes each, big end first
) STRICT;
CREATE TABLE journal (
    key         INTEGER PRIMARY KEY,    -- mailbox id << 40 | first seq
    count       INTEGER NOT NULL,
    outcome     INTEGER NOT NULL,
    at_ms       INTEGER NOT NULL,
    address     TEXT NOT NULL,
    pull_key    TEXT,
    count_max   INTEGER NOT NULL,
    proof      TEXT NOT NULL, ticket BLOB, reader      TEXT, given       INTEGER, acked_ms    INTEGER, released_ms INTEGER) STRICT;
INSERT INTO "journal" VALUES(1099511627779,1,0,1800000000009,'192.0.2.1',NULL,1,'',X'04040404040404040404040404040404',NULL,NULL,NULL,NULL);
CREATE TABLE mailbox (
    id          INTEGER PRIMARY KEY,
    sdkappid    INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    tail        INTEGER NOT NULL,       -- number of the newest entry, 0 before the first
    cursor      INTEGER NOT NULL,       -- number of the last entry that left
    handed_out  INTEGER NOT NULL, expired     INTEGER NOT NULL DEFAULT 0, erased      INTEGER NOT NULL DEFAULT 0, quarantined INTEGER NOT NULL DEFAULT 0, purged      INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 0, put_back INTEGER NOT NULL DEFAULT 0, routed   INTEGER NOT NULL DEFAULT 0,       -- entries that left by a pull
    UNIQUE (sdkappid, kind)
) STRICT;
INSERT INTO "mailbox" VALUES(1,1400006666,0,5,3,3,0,0,0,2,6,0,0);
CREATE TABLE mark (
    name        TEXT PRIMARY KEY,
    at_ms       INTEGER NOT NULL,
    place       TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE once (
    sdkappid    INTEGER NOT NULL,
    nonce       TEXT NOT NULL,
    until_ms    INTEGER NOT NULL,
    PRIMARY KEY (sdkappid, nonce)
) STRICT, WITHOUT ROWID;
CREATE TABLE quarantine (
    key         INTEGER PRIMARY KEY,
    count       INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    checksum    INTEGER NOT NULL,
    bounds      BLOB NOT NULL,
    body        BLOB NOT NULL
, tickets BLOB) STRICT;
CREATE TABLE reader (
    mailbox     INTEGER NOT NULL,       -- its id
    name        TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,       -- when it was handed something, or acknowledged it, last
    acked_seq   INTEGER NOT NULL,       -- first number of the page acknowledged last; 0: none was
    first_seq   INTEGER NOT NULL,       -- of the page in hand; 0: none is
    count       INTEGER NOT NULL,       -- of that page
    taken_ms    INTEGER NOT NULL,       -- when it was taken
    given       INTEGER NOT NULL,       -- how many times it was handed out
    page        BLOB,                   -- itself, with a checksum, once retention has removed it
    PRIMARY KEY (mailbox, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE repeat_key (
    id          INTEGER PRIMARY KEY,    -- in order of time, so that old ones are at one end
    scope       TEXT NOT NULL,
    key         TEXT NOT NULL,
    digest      BLOB NOT NULL,
    accepted    INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    UNIQUE (scope, key)
) STRICT;
CREATE TABLE setting (
    name        TEXT PRIMARY KEY,
    value       BLOB,                   -- NULL: deleted, kept so that others learn of it
    revision    INTEGER NOT NULL UNIQUE
, ticket BLOB) STRICT, WITHOUT ROWID;
CREATE TABLE transfer (
    id          INTEGER PRIMARY KEY,    -- 1
    state       BLOB NOT NULL           -- JSON
) STRICT;
CREATE INDEX journal_by_pull_key ON journal (pull_key) WHERE pull_key IS NOT NULL;
CREATE INDEX fingerprint_step_by_time ON fingerprint_step (accepted_ms);
CREATE INDEX repeat_key_by_time ON repeat_key (accepted_ms);
CREATE INDEX mailbox_by_revision ON mailbox (revision) WHERE revision > 0;
CREATE INDEX once_by_time ON once (until_ms);
CREATE INDEX again_by_act ON again (act_id, key >> 40, source_seq);
COMMIT;
PRAGMA application_id = 1886743660;
PRAGMA user_version = 3;
