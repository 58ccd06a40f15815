-- A store as pullstatus 0.1.0 wrote it, in format 2: three mailboxes, batches with and without a
-- key, records with fingerprints, pulls with and without a key, one of them with a signature that is
-- good once, an expiry, a setting. Dumped by Python's sqlite3.
PRAGMA page_size = 8192;
BEGIN TRANSACTION;
CREATE TABLE again (
    key         INTEGER NOT NULL,       -- mailbox id << 40 | first seq
    count       INTEGER NOT NULL,
    source_seq  INTEGER NOT NULL,       -- number of the first original; its own if restored
    audit_id    INTEGER NOT NULL,       -- the act that did it
    PRIMARY KEY (key, audit_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
    id          INTEGER PRIMARY KEY,
    at_ms       INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    action      TEXT NOT NULL,
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL           -- JSON; no number, no text, no key
) STRICT;
CREATE TABLE chunk (
    key         INTEGER PRIMARY KEY,    -- mailbox id << 40 | first seq
    count       INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    checksum    INTEGER NOT NULL,       -- over key, bounds and body
    bounds      BLOB NOT NULL,          -- count sizes, then count checksums; 4 bytes each
    body        BLOB NOT NULL           -- the entries joined by commas
) STRICT;
INSERT INTO "chunk" VALUES(1099511627777,3,1800000000000,566531903127713862,X'070000000700000007000000073B6C4D2E155F3A1E99A930',X'7B226E223A317D2C7B226E223A327D2C7B226E223A337D');
INSERT INTO "chunk" VALUES(2199023255553,2,1800000000000,2976235792771816751,X'07000000070000001DB0BA9D1B121649',X'7B226E223A347D2C7B226E223A357D');
INSERT INTO "chunk" VALUES(3298534883329,1,1800000000000,2721261273424312652,X'0700000041D337E3',X'7B226E223A367D');
CREATE TABLE epoch (
    number      INTEGER PRIMARY KEY,    -- 1, and one more with every restore
    began_ms    INTEGER NOT NULL
) STRICT;
INSERT INTO "epoch" VALUES(1,0);
CREATE TABLE fingerprint (
    record_s    INTEGER NOT NULL,
    digest      BLOB NOT NULL,
    scope       TEXT NOT NULL,
    accepted_ms INTEGER NOT NULL,
    PRIMARY KEY (record_s, digest, scope)
) STRICT, WITHOUT ROWID;
INSERT INTO "fingerprint" VALUES(1799999940,X'646967657374206F66207265706C7934','gateway/1400006666/replies',1800000000000);
INSERT INTO "fingerprint" VALUES(1799999940,X'646967657374206F66207265706C7934','other/1400006667/delivery-statuses',1800000000000);
INSERT INTO "fingerprint" VALUES(4000000000,X'646967657374206F66207265706C7935','gateway/1400006666/replies',1800000000000);
CREATE TABLE journal (
    key         INTEGER PRIMARY KEY,    -- mailbox id << 40 | first seq
    count       INTEGER NOT NULL,
    outcome     INTEGER NOT NULL,
    at_ms       INTEGER NOT NULL,
    address     TEXT NOT NULL,
    pull_key    TEXT,
    count_max   INTEGER NOT NULL,
    random      TEXT NOT NULL,
    time_s      INTEGER NOT NULL
) STRICT;
INSERT INTO "journal" VALUES(1099511627777,2,0,1800000000000,'192.0.2.1','batch-1',2,'72262',1800000000);
INSERT INTO "journal" VALUES(2199023255553,1,0,1800000000000,'192.0.2.1',NULL,1,'72264',1800000000);
INSERT INTO "journal" VALUES(2199023255554,1,1,1800000000000,'',NULL,0,'',0);
INSERT INTO "journal" VALUES(3298534883329,1,0,1800000000000,'192.0.2.1','batch-1',1,'72263',1800000000);
CREATE TABLE mailbox (
    id          INTEGER PRIMARY KEY,
    sdkappid    INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    tail        INTEGER NOT NULL,       -- number of the newest entry, 0 before the first
    cursor      INTEGER NOT NULL,       -- number of the last entry that left
    handed_out  INTEGER NOT NULL, expired     INTEGER NOT NULL DEFAULT 0, erased      INTEGER NOT NULL DEFAULT 0, quarantined INTEGER NOT NULL DEFAULT 0, purged      INTEGER NOT NULL DEFAULT 0,       -- entries that left by a pull
    UNIQUE (sdkappid, kind)
) STRICT;
INSERT INTO "mailbox" VALUES(1,1400006666,0,3,2,2,0,0,0,0);
INSERT INTO "mailbox" VALUES(2,1400006666,1,2,2,1,1,0,0,0);
INSERT INTO "mailbox" VALUES(3,1400006667,0,1,1,1,0,0,0,0);
CREATE TABLE quarantine (
    key         INTEGER PRIMARY KEY,
    count       INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    checksum    INTEGER NOT NULL,
    bounds      BLOB NOT NULL,
    body        BLOB NOT NULL
) STRICT;
CREATE TABLE repeat_key (
    id          INTEGER PRIMARY KEY,    -- in order of time, so that old ones are at one end
    scope       TEXT NOT NULL,
    key         TEXT NOT NULL,
    digest      BLOB NOT NULL,
    accepted    INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    UNIQUE (scope, key)
) STRICT;
INSERT INTO "repeat_key" VALUES(1,'gateway/1400006666/delivery-statuses','batch',X'646967657374206F66206120626F6479',3,1800000000000);
CREATE TABLE setting (
    name        TEXT PRIMARY KEY,
    value       BLOB,                   -- NULL: deleted, kept so that others learn of it
    revision    INTEGER NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;
INSERT INTO "setting" VALUES('application/1400006666',X'7B7D',1);
CREATE TABLE used_signature (
    time_s      INTEGER NOT NULL,
    sdkappid    INTEGER NOT NULL,
    random      TEXT NOT NULL,
    PRIMARY KEY (time_s, sdkappid, random)
) STRICT, WITHOUT ROWID;
INSERT INTO "used_signature" VALUES(1800000000,1400006666,'72264');
CREATE INDEX journal_by_pull_key ON journal (pull_key) WHERE pull_key IS NOT NULL;
COMMIT;
PRAGMA application_id = 1886743660;
PRAGMA user_version = 2;
