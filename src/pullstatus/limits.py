"""Every bound in one place, with its unit and its reason.

A bound belongs here when a stranger can run into it. The unit is the end of the name. Those of the
wire follow from what clients send: protocol.md sections 1, 2 and 12.
"""

from typing import Final

# --- the pull call --------------------------------------------------------------------------------

PULL_COUNT_MAX: Final = 100
"""Records in one answer. The documented ceiling of `max`; more is refused, not clamped, since a
caller that asks for 500 and gets 100 would take the queue for drained."""

PULL_BODY_BYTES_MAX: Final = 64 * 1024
"""A pull's body has some 130 bytes; the most talkative client sends 300."""

QUERY_BYTES_MAX: Final = 2 * 1024
"""`sdkappid` and `random` need 100 bytes even if every character is percent-encoded."""

CALLBACK_QUERY_BYTES_MAX: Final = 16 * 1024
"""The whole address of a gateway's callback, which may have a reply in it: 1,600 characters, the
most that any joins, have nine bytes each in Chinese. Proxies in front take 8 KiB as they come."""

RANDOM_CHARS_MAX: Final = 64
"""Characters of `random`. Real clients send 1 to 19 digits."""

JSON_DEPTH_MAX: Final = 16
"""Levels of arrays and objects in any JSON that we read. Documented bodies have at most three."""

INTEGER_DIGITS_MAX: Final = 19
"""Digits of 2**63 - 1. Longer numbers are refused by their length, before any arithmetic."""

SECRET_ID_CHARS_MAX: Final = 64
"""Characters of a SecretId of API 3.0 as it is sent. Issued ones have 36."""

SERVICE_BYTES_MAX: Final = 255
"""Bytes of the service in a signature of API 3.0: four of six SDKs put a label of the host's name
there, and all of one is no longer than that."""

DAY_KEYS_KEPT: Final = 1024
"""Keys of a day that are kept derived, by secret, date and service, each some 300 bytes: making one
takes a third of what checking a signature does."""

API3_ASKED_KNOWN: Final = 256
"""What calls of API 3.0 ask for that is remembered by its bytes, since a client asks for the same
again and again: what is signed of it but its time, and its parameters."""

API3_ASKED_BYTES: Final = 1024
"""Of a call of API 3.0 that asks for more, none of this is remembered."""

API3_QUERY_BYTES_MAX: Final = 8 * 1024
"""A GET of API 3.0 has some 300 bytes of parameters and, by version 1, as many of its signature."""

API3_PARAMETERS_MAX: Final = 264
"""Parameters of a form or a query. Calls have ten at most, and as many of a signature; but a
`SendSms` has one for each of its numbers, which may be 200, and one for each place of its
template."""

API3_SKEW_S_MAX: Final = 300
"""Seconds between the timestamp of a call of API 3.0 and our clock, either way, as documented."""

API3_LOOK_BACK_S: Final = 7 * 86_400 + 600
"""Seconds that a question by number may look back over API 3.0: the documented seven days, and what
a caller's clock may be off."""

API3_NUMBER_DIGITS_MIN: Final = 5
"""Digits of a number with its calling code: no country has shorter ones."""

TRACE_ID_CHARS_MAX: Final = 64
"""Visible ASCII characters of an `X-TC-TraceId` that is sent back; SDKs make a UUID."""

SKEW_S_MAX: Final = 600
"""Seconds between a request's `time` and ours, either way. The documents refuse *more than* ten
minutes, so exactly 600 passes."""

PULL_WAIT_S_MAX: Final = 50
"""Seconds that a pull of an empty mailbox may wait for a record. Most published clients wait 60 s
for an answer, and many a proxy does."""

PULLS_HELD_MAX: Final = 10_000
"""Pulls that wait at a time, over all mailboxes; each costs some KiB of memory. Beyond them an
empty page is answered at once; so it is while an application has half of its part in hand, which is
4,096 of its pulls that wait."""

WINDOW_S_MIN: Final = 10
"""Seconds that an application may at least be given from signing to arrival: clocks that are kept
right are within one, and a slow network takes a few."""

SDKAPPID_MAX: Final = 2_147_483_647
"""The Java, C# and C++ clients hold it in a signed 32-bit int."""

APPKEYS_LIVE_MAX: Final = 2
"""Live appkeys of one application: the old and the new one while a key is being changed."""

SIGNATURE_KEY_CHARS_MAX: Final = 256
"""Of what a gateway signs its requests with; those that we know have 32 to 64."""

SECRET_CHARS: Final = 32
"""Letters and digits of a SecretKey, and of a SecretId behind its AKID, as the documents show them;
190 bits."""

PAIRS_LIVE_MAX: Final = 2
"""Secret key pairs that may read one application: the old and the new one while it is changed."""

PAIR_APPLICATIONS_MAX: Final = 100
"""Applications that one secret key pair may read: an account has some. Its setting is 6 kB then."""

REWRITE_BESIDE_BYTES_MAX: Final = 256 * 1024 * 1024
"""Size of a store that is written anew beside its server, which waits meanwhile: a few seconds."""

NAMED_FILE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of a file that an operator names and that is read whole: settings, certificates, rules of alarms,
scenarios. They have some kilobytes; whoever names another file by mistake is told."""

MASTER_KEYS_BYTES_MAX: Final = 4096
"""A master key is a line of 64 digits; a source has one, two while it is changed, and remarks."""

ADDRESS_CHARS_MAX: Final = 64
"""Characters of an address that is told or kept; what is longer is none. One has 45 at most, with a
zone some more; behind a proxy it is what that says."""

RATE_MAX: Final = 1_000_000
"""Calls a second that an application may be limited to; more is no limit."""

QUERY_RATE: Final = 20
"""Queries by number a second of an application, if its operator says nothing else: the rate that
the service documents."""

STATISTICS_RATE: Final = 10
"""Likewise of its statistics, each of which may be over a month of hours."""

WAITING_DAYS_MAX: Final = 3650
"""Days after which what nobody pulled may be set to expire."""

APPLICATION_NAME_CHARS_MAX: Final = 64
"""Characters of an application's name: room for a customer's, and still one line of a table."""

APPLICATIONS_IMPORT_MAX: Final = 1000
"""Applications that one import makes: all in one commit, which everybody else waits for."""

IMPORT_BYTES_MAX: Final = 1024 * 1024
"""A file of applications: 1,000 of them are some 100 KiB."""

RULES_MAX: Final = 1000
"""Rules of routing, which are one setting: an application of a platform needs one or two, and as
many as an import makes are some 200 kB, which a change writes and each server reads anew."""

RULE_CHARS_MAX: Final = 64
"""Characters of a name, a number, an id or a text in a rule of routing: room for a UUID, and for
the longest sign. A thousand rules that are full of them have half a megabyte."""

LOOKS_PER_S_MAX: Final = 20
"""Looks at the store for changed applications and tokens, each some 0.1 ms: what a caller waits for
at most, 50 ms, before it is refused for something that a command may just have changed."""

APPLICATIONS_AT_START: Final = 10_000
"""Applications that a server reads before it is ready, each some 20 us and 1 kB, and as many secret
key pairs. Others are read when they are first asked for."""

FAILED_TRIES_MAX: Final = 20
"""Failed tries, of signature, application or token, that an address may have at once before they
are answered late. Nobody who proves himself is ever late, however many came from there."""

FAILED_TRIES_PER_MINUTE: Final = 20
"""How many more it may have each minute. A client with a wrong key that asks every two seconds has
more, and is told of."""

FAILED_TRY_PAUSE_S: Final = 1
"""Seconds that the answer is late then: each connection has one try a second."""

FAILED_TRIES_HELD_MAX: Final = 1000
"""Answers that are held back at a time, each some KiB of memory; beyond them none is late."""

FAILED_TRIES_KEPT_MAX: Final = 10_000
"""Addresses, and applications, whose failed tries are remembered, each some 300 bytes. Beyond them
those leave that failed longest ago."""

FAILED_TRIES_ROWS_MAX: Final = 20
"""Rows that an hour's failed tries make in the record of acts, each some 230 bytes: 40 MB in a year
of which somebody uses every hour. Those at more applications are summed in the last one."""

FAILED_TRIES_ADDRESSES_MAX: Final = 10_000
"""Addresses that are told apart for those rows, in all of them; each some 150 bytes until then.
Beyond them a row says that there were more."""

OVERTAKEN_MAX: Final = 5
"""Tries of an append or pull that a change of its application overtakes each time."""

APPKEY_CHARS: Final = 32
"""Hex characters of an appkey, as the documents show it."""

# --- records --------------------------------------------------------------------------------------

RECORD_BYTES_MAX: Final = 16 * 1024
"""One record as stored and answered, in bytes of ASCII JSON. A reply of ten SMS parts in Chinese
takes 4 KiB; a hundred of the largest make an answer of 1.6 MiB."""

RECORD_SENT_BYTES_MAX: Final = 8 * RECORD_BYTES_MAX
"""One record as it is sent, if it is not read at once with its neighbours. No byte that is stored
takes more than six to spell; the rest is room for blanks."""

SID_CHARS_MAX: Final = 64
"""Characters of `sid`. The longest known shape has 33."""

NATIONCODE_DIGITS_MAX: Final = 6
"""Digits of a calling code. E.164 has at most 3; some catalogues add an area, as in 1242."""

MOBILE_DIGITS_MAX: Final = 20
"""Digits of a number. E.164 has at most 15, and some senders put the calling code in front."""

REPLY_TIME_S_MAX: Final = 253_402_300_799
"""The end of the year 9999 in Unix seconds. Milliseconds of any date after 1978 exceed it."""

# --- ingest ---------------------------------------------------------------------------------------

INGEST_BODY_BYTES_MAX: Final = 1024 * 1024
"""One ingest or callback body: a thousand ordinary records are 250 KiB."""

INGEST_RECORDS_MAX: Final = 1000
"""Records in one ingest request, which is accepted as a whole or not at all. A callback may bring
any number, since its sender would drop them all: its bytes bound them."""

SENDS_COUNT_MAX: Final = 100_000_000
"""What one item of a report of sends may count: more than anybody sends in an hour. For a sum that
64 bits do not hold it would take 92 million reports that are full of it."""

CALLBACK_PARTS_MAX: Final = 65_536
"""Parts of a callback that are looked at one by one; a body of more is parked as one. A body has
room for some 8,000 records of the shortest kind."""

RECEIPT_CHARS_MAX: Final = 4096
"""Characters of a receipt as SMPP centres write it, behind which no further key is looked for: its
own are within 300."""

SPREAD_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of the items of a callback that says once what they share, with that in each of them: room
for 1,000 numbers, the most of a batch at Sinch, and 4 KiB around each. One of more is parked. Also
of what is kept with each item that is parked or waits: what stood in the address, and the content
type. Of a request that would need more, what can't be read is parked in a few items, each of up to
1,000 parts, and what there is no room for does not wait."""

IDEMPOTENCY_KEY_CHARS_MAX: Final = 64
"""Visible ASCII characters of an Idempotency-Key: room for a UUID, or a hex SHA-256."""

INGEST_REPEAT_S: Final = 72 * 3600
"""Seconds during which a repeated ingest is accepted again but stored once. Longer than any
carrier goes on retrying."""

BRIEF_REPEAT_S: Final = 600
"""Seconds, up to twice as many, during which equal bytes are a repeat of what tells neither an id
nor a time: a gateway tries again within minutes, and people write the same text again."""

TRAFFIC_MAX: Final = 10_000
"""Tokens, each with a source and an hour, of which a process counts what came until it is written:
some 3 MB. What comes by others meanwhile is not counted."""

NAMES_HOURS: Final = INGEST_REPEAT_S // 3600
"""Hours that names of sends are known: 72, the longest time after which a gateway sends a receipt
(AWS gives an SMS up then). They leave with what repeats are known by, in the same steps."""

NAMES_BLOCK: Final = 36
"""Names that lie in one block: what they have in common is kept once. Of fewer together each takes
more room, and so does each of more, since few such blocks fill a file's page. Of names that have an
id for each part fewer lie in one: those that have as many ids together as one may have."""

NAMES_FOUND_MAX: Final = 128
"""Blocks in which an id is looked for under one hash, the newest: an id that is registered over and
over again holds up nobody, and one that a thousand numbers share is in 32 blocks, if these came in
one report. With a platform's token an id that is in so many is nobody's: who else has registered it
is not known."""

NAMES_RUN_MAX: Final = 16_384
"""Blocks of all applications under one hash among which those of one are looked for in a file, the
newest. Whoever wants to hide another's id has to register it in as many: half a million times."""

GATEWAY_ID_CHARS_MAX: Final = 128
"""Characters of the id that a gateway knows an SMS by. SMPP has 64; the longest known is a UUID
with something before it."""

MESSAGE_PARTS_MAX: Final = 255
"""Parts of one SMS: what the byte that numbers them can say."""

FINGERPRINTS_RECENT_MAX: Final = 1 << 18
"""Fingerprints of records that are in memory until the store's index has them: 110 bytes each, so
some 28 MiB, and a start that reads them takes a tenth of a second longer. A burst of callbacks of
as many records is stored without touching the index."""

SIGNATURE_KEPT_S: Final = 2 * SKEW_S_MAX
"""Seconds after its own time for which a signature that is good once is remembered. It is refused
as too old after half of them; the rest is for a request that waits for the disk meanwhile, and for
a clock that is set back."""

PULL_KEY_S: Final = 24 * 3600
"""Seconds during which a keyed pull is answered again with the same batch."""

PARKED_ITEMS_MAX: Final = 10_000
"""Parked items of one application: ten pushes of 1,000 parts, if nothing in them can be read. The
oldest leave for more. Of what is nobody's, under number 0, so many of each token, whose own oldest
leave for more within some seconds."""

PARKED_BYTES_MAX: Final = 64 * 1024 * 1024
"""Their bytes as stored, four for three that came. One item is at most a body, which is kept whole:
what is cut could not be read any more after a mend."""

PARKED_DAYS: Final = 30
"""Days after which a parked item leaves: time for a mend to be made and brought out, and no longer,
since nobody has looked whose data it holds. An item that a retry puts back, or a route parks with
another application, has them anew, but for one that came longer ago than that, which leaves: so
none stays for twice as long."""

SOURCE_BYTES_MAX: Final = 32 * 1024
"""Of the text of a source. Ours have some 2 KiB."""

SOURCES_MAX: Final = 64
"""Sources that operators have added. Each server has all of them read: some 10 kB a source."""

SOURCE_FIELDS_MAX: Final = 256
"""Fields of a query or a form that are looked at. Gateways send some 20. A request that must
be signed is refused with more of them, and so it is with more members of JSON that are signed."""

PENDING_NAME_S: Final = 10
"""Seconds for which a receipt waits for its send to be registered: the receipt may overtake it, but
not by more, since whoever sends is answered the id that it registers."""

PENDING_PARTS_S: Final = 3600
"""Seconds for which the first part of a message waits for the others. What has not come in an hour
was lost, or waits for a telephone that is switched off, as others of it will."""

PENDING_ITEMS_MAX: Final = 4_000
"""Items of one application that wait for something else. All of them are read to find what may
leave. One for which there is no room leaves at once, as it is. Of parts that came with a platform's
token before they were registered there may be as many again."""

PENDING_SHARED_ITEMS: Final = 6_000
"""Such items of what is nobody's yet, over all tokens: alone one may have half of them, beside one
that floods a third, beside ten 500. While tokens have just begun there may be twice as many in all;
beyond these each has 50 of its own, of 60 tokens at most. All are read each second, at some 20 us
each. Who registers a second late has 500 for 500 receipts a second."""

PENDING_ITEM_BYTES_MAX: Final = 16 * 1024
"""Bytes of such an item as it is stored; a larger one leaves at once. A part of an SMS is some 300
bytes, and some gateways put as much again around it."""

PENDING_MAILBOXES_MAX: Final = 1_000_000
"""Applications of which something is looked after at a time: as many as a store may have."""

CALLBACK_ANSWER_S: Final = 5
"""Seconds from the whole body of a callback to its answer, whatever the store does: the most
impatient sender waits 15 for all of it."""

READER_CHARS_MAX: Final = 64
"""Characters of a reader's name: room for a host's and a program's."""

READERS_MAX: Final = 64
"""Readers of one mailbox that the store remembers: each costs a page at most. Beyond them, of those
that hold no page, the one is forgotten that got or acknowledged one longest ago. More consumers of
one mailbox than that share names."""

# --- retention ------------------------------------------------------------------------------------

HANDED_OUT_RETENTION_DAYS: Final = 7
"""Days for which pulled entries and their journal stay by default: a long weekend, and the look
back of API 3.0's query by number."""

RETENTION_DAYS_MIN: Final = 1
"""Days that pulled entries stay at least: a keyed retry may come for a day."""

RETENTION_DAYS_MAX: Final = 36_500
"""Days that pulled entries stay at most: a century. What is reckoned with them stays a moment of
the calendar, and within a store's integers."""

REDELIVER_COUNT_MAX: Final = 1000
"""Records that one step of a redelivery copies, in one commit, which everybody else waits for: some
50 ms if none of them stood beside another, 2 ms if all did."""

TALLIES_DAYS: Final = 400
"""Days that counts of hours stay: a year, and the month in which somebody looks back at it. They
take 0.8 MB of an application that something comes for in every hour."""

ASKED_COUNT_MAX: Final = 10_000
"""Records of one number that a question sorts: ten thousand take some 100 ms, and hold up other
requests of the server for a part of that."""

FOUND_COUNT_MAX: Final = 10_000
"""Records that an operator's search shows, each some 4 KiB of memory and some hundred bytes on a
screen: for more it is to be narrowed."""

QUESTIONS_AT_ONCE: Final = 4
"""Questions of customers that a server asks its store at a time. One may have to look through some
millions of records, at 0.2 s a million, in steps of a few ms; the embedded engine has two threads
for them, with which others read, too."""

QUESTIONS_MAX: Final = 64
"""Those, and others that wait for their turn: a quarter of them, for one application, is as many as
it may ask in a second. Beyond them questions are refused at once."""

QUESTION_S: Final = 10
"""Seconds until a question is given up, its wait included: as long as any operation of a store may
wait. Most published clients wait longer."""

STATISTICS_DAYS_MAX: Final = 32
"""Days from the first to the last hour that statistics are asked for, as documented for API 3.0."""

ACT_MAILBOXES_MAX: Final = 10_000
"""Mailboxes that one act names, by some 30 bytes each: it is one message of a cluster, whose nodes
take no more than a MiB."""

REPLAYS_KNOWN: Final = 16_384
"""Signatures that a server knows at most, to count those that come again: some MiB, and what comes
in ten minutes at 27 pulls a second. Those of strict applications are in the store for as long as
they are good."""

STORE_RESERVE_BYTES: Final = 128 * 1024 * 1024
"""Free bytes on the disk below which nothing more is accepted: 64 MiB, and as much for the
write-ahead log, so that pulls and their journal still work."""

STORE_LOG_BYTES_MAX: Final = 512 * 1024 * 1024
"""Bytes of the store's log beyond which nothing more is accepted: a program that reads the store
for long, such as a backup that was stopped, keeps what was committed since from being folded into
the file. Usual are 64 MiB and less; at half of this there is a warning."""

SCRATCH_RESERVE_BYTES: Final = 1024 * 1024
"""The same for a store that is thrown away, as the emulator's: what it holds is small, and the
memory disk it lies on may be small too."""

# --- what is under way ----------------------------------------------------------------------------

STORE_WINDOW_OPERATIONS: Final = 512
"""Operations handed over to a store at a time: a commit's and the next one's. Nobody can say how
they end before the store does; what waits behind them can still be dropped."""

STORE_WINDOW_BYTES: Final = 256 * 1024
"""Their bytes, beyond which nothing more is handed over: some milliseconds of commits, which are
what everybody else's operations wait for."""

STORE_PENDING_MAX: Final = 16_384
"""Operations that wait for a store, there or before it. More are refused."""

STORE_WAIT_S: Final = 10
"""Seconds after which an operation that was not handed over yet is refused: nothing happened then.
Most published clients wait longer for an answer, so that they hear of it."""

STALLED_S: Final = 5
"""Seconds that the oldest operation may wait until the server says that it is not ready."""

FIGURES_S: Final = 3
"""Seconds that the store may take for figures until they are told without it."""

RECORD_BYTES_USUAL: Final = 256
"""An ordinary record as stored, for what a page may bring."""

IN_HAND_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of requests that are not answered, and of answers that are not read. In memory it is up to
three times as much. Beyond it requests are refused before anything is done."""

REQUEST_BYTES: Final = 2 * 1024
"""What a request counts for, with a body up to as much. So the bytes bound the number as well:
32,768 requests are in hand at most, and 8,192 of one application or address."""

CHUNKS_FREE: Final = 1024
"""Chunks of one body, whatever their size; beyond them `CHUNK_BYTES_MIN` on average. Each costs as
much as a small request."""

CHUNK_BYTES_MIN: Final = 64
"""Bytes of a chunk on average. Senders that know no length send some KiB at a time."""

FRAMING_BYTES_PER_BYTE_MAX: Final = 16
"""Bytes of sizes of chunks and the like, for each byte of a body: one in chunks of one byte has
five for each."""

UNKNOWN_MEMBERS_MAX: Final = 64
"""Members of one record beside those that are documented. Carriers add two or three."""

CONNECTIONS_MAX: Final = 16_384
"""Connections at a time, if the system lets us have as many files: an idle one takes 13 KiB, and as
much as the headers of its last request were longer than usual. No large body is kept of it."""

WORST_TOLD: Final = 10
"""Mailboxes that figures tell of one by one, by each of two measures: as many as somebody reads."""

WORST_TOLD_MAX: Final = 100
"""Of these, what can be asked for: at each scrape a block of mailboxes is read for each."""

WORKERS_MAX: Final = 16
"""Processes of one server that answer requests. The store's one process is busy before so many
are."""

WORKER_SILENT_S: Final = 10
"""Seconds that a worker's event loop may stand still while its server goes on; then it is killed,
and started anew. What it does at a time takes milliseconds."""

WORKER_START_S: Final = 120
"""Seconds that a worker may take from its process until it answers; then it is killed, too. Most of
them take the applications and tokens of a large store."""

SHARE_OF_ONE: Final = 4
"""The part of what there is of something that one address, or one application, may have: a quarter.
So may a token of no application, of what is in hand. A trusted proxy's connections, and this
machine's own, are those of many and have the whole."""

CONNECTIONS_RESERVED: Final = 32
"""Connections beyond a bound, for health and figures; as many has the listener of `--admin`."""

DESCRIPTORS_KEPT: Final = 64
"""Files of the server besides connections: its store, its log, readers of the store."""

# --- HTTP -----------------------------------------------------------------------------------------

HEADER_BYTES_MAX: Final = 16 * 1024
"""A request's whole header block."""

HEADERS_MAX: Final = 64
"""Header lines of one request. Old clients send about eight, a proxy adds as many again."""

USUAL_HEAD_BYTES: Final = 1024
"""Request line, and headers, of a request that is read without the parser. Clients send some 300;
each of the `USUAL_HEADS_KNOWN` takes up to four times as much memory."""

USUAL_BODY_BYTES: Final = 32 * 1024
"""A batch that is read in one go, in some 0.2 ms. With its headers it waits for its turn as it came
in, while there is room: what waits is in hand. Longer ones are read piece by piece."""

USUAL_LINES_KNOWN: Final = 1024
"""Single headers that are remembered by their bytes, where heads are never the same. A call of
API 3.0 has some nine that its client says again, and four of its own, which push out the oldest."""

USUAL_HEADS_KNOWN: Final = 512
"""Headers that are remembered by their bytes: few more than kinds of clients say the same ones
again and again. Those that hold a key of their own each time push others out, at little cost."""

REQUESTS_BEHIND_MAX: Final = 512
"""Requests on one connection that are whole and have no answer yet. Each is read while everybody
else waits, and one read may bring ten thousand of the smallest: so many take some 10 ms. Few
clients send a second one before the first is answered."""

HEADER_DEADLINE_S: Final = 10
"""Seconds until the headers are complete, against clients that trickle them."""

BODY_DEADLINE_S: Final = 30
"""Seconds until the body is complete."""

BODY_BYTES_PER_S_MIN: Final = 1024
"""Bytes a second that a body of over `REQUEST_BYTES` brings at least, over all the time since its
headers, once that is `BODY_PATIENCE_S`. As with answers: the slowest lines that clients have bring
ten times as much. What is smaller takes no more room than any request."""

BODY_PATIENCE_S: Final = 10
"""Seconds for which a body may be as slow as it likes: as long as headers may take, over a line
that loses packets, too."""

IDLE_S: Final = 75
"""Seconds that a connection may stay open between two requests."""

ANSWER_DEADLINE_S: Final = 30
"""Seconds that a written answer may wait for a peer that takes no byte of it."""

ANSWER_BYTES_PER_S_MIN: Final = 1024
"""Bytes a second that a peer takes at least, over all the time that something lies unread for it,
once that is `ANSWER_DEADLINE_S`. The slowest lines that clients have bring ten times as much. The
client wants as many of an answer, once that has come for as long as its timeout."""

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of an answer, as it comes and unpacked, that the client reads: five times the longest page
that a server of ours can make."""

REASON_CHARS_MAX: Final = 1000
"""Characters of what the other side says in the client's errors; their attributes have all."""

DRAIN_DEADLINE_S: Final = 10
"""Seconds from TERM to the end of the process, whatever the store does. Requests that are not
whole, answers that are not read, and calls that the store has not answered by then are cut. The
shortest time that a service manager is known to wait, before it kills, is also ten seconds."""

SLICE_S: Final = 0.0005
"""Seconds that the event loop reads one long body at a time; then everybody else has a round."""

SHED_PAUSE_S: Final = 0.25
"""Seconds that the answer to a call is late for which there is no room: whoever repeats it at once
would keep the server busy with bodies that it drops."""

SHED_HELD_MAX: Final = 1000
"""Answers that are late for that at a time; beyond them none is."""

RETRY_AFTER_S: Final = 5
"""Seconds that a 503 tells the sender to wait."""

LOG_LINES_PER_S_MAX: Final = 20
"""Lines about requests, of one kind, that the log has in a second; how many more there were is told
in one line. A flood of one kind makes some 400 MiB a day."""

LOG_LINES_OF_ONE_PER_S_MAX: Final = 5
"""How many of these may be of one address: who is loud hides nobody else."""

LOG_BYTES_MAX: Final = 1024 * 1024
"""Lines that wait to be written, in bytes; some 4,000. What is no warning may fill half of it."""

LOG_FLUSH_S: Final = 0.5
"""Seconds that the end of the process waits for its last lines to be written."""

ABOUT_CACHED_S: Final = 60
"""Seconds for which `GET /` may be answered out of a cache. What it says changes with an upgrade
only, and a client asks once."""

# --- the client -----------------------------------------------------------------------------------

ABOUT_WAIT_S: Final = 3
"""Seconds that a client waits for the answer to `GET /`, once connected. Ours has it at hand; a
service that is not ours must not hold a client up for longer."""

ABOUT_BYTES_MAX: Final = 16 * 1024
"""Bytes of that answer that a client reads. Ours has some 120."""

# --- the emulator ---------------------------------------------------------------------------------

RECEIVERS_MAX: Final = 200
"""Numbers in one `sendmultisms2`, as documented."""

SMS_CHARS_MAX: Final = 500
"""Characters of one SMS with its signature, parts joined. The documents only say that there is such
a limit."""

SIGN_CHARS_MIN: Final = 2
"""Characters of an SMS signature at least, as documented."""

SIGN_CHARS_MAX: Final = 12
"""Characters of an SMS signature. The oldest page says 8, later ones 12."""

PARAM_CHARS_MAX: Final = 12
"""Characters of what goes into one place of a template, as documented."""

EXT_CHARS_MAX: Final = 1024
"""Characters of a send's session text, which comes back in its delivery status."""

EXTEND_DIGITS_MAX: Final = 20
"""Digits of a send's extension code: longer ones fit no sender's number."""

SENT_MAX: Final = 10_000
"""Sends that the emulator remembers for `GET /emulator/sent`; older ones go first."""

SENT_CHARS_KEPT: Final = 1024
"""Characters that are remembered there of each member of a send: twice what an SMS may have. Those
of a send that was refused may be as long as its body."""

REQUESTS_MAX: Final = 1000
"""Requests that the emulator remembers for `GET /emulator/requests`; older ones go first."""

REQUEST_BODY_BYTES_KEPT: Final = 4096
"""Bytes of a request's body that are remembered there: with the above, at most 4 MB."""

PENDING_MAX: Final = 100_000
"""Records that the emulator has promised for later. Beyond, sends are refused with 1013."""

PUSHES_MAX: Final = 10_000
"""Pushes that wait in the emulator for a callback that does not answer; older ones go first. Of
callbacks of played gateways as many wait, to be made or to be made again."""

PUSHES_BYTES_MAX: Final = 64 * 1024 * 1024
"""Their bodies together: one of a thousand statuses, each with its `ext`, has over 1 MB."""

PLAYED_URL_CHARS_MAX: Final = 4096
"""Of the address that a played gateway calls: each callback has it once more. With the above, at
most 40 MB; gateways and proxies take less."""

RECEIVER_BYTES_MAX: Final = 64 * 1024
"""Bytes that the emulator reads of an answer to what it pushes: more than any gateway looks at."""

EMULATED_APPLICATIONS_MAX: Final = PAIR_APPLICATIONS_MAX - 1
"""Applications of a scenario beside its first: more than any test tells apart, and no more than one
secret key pair may read."""

FAULTS_MAX: Final = 1000
"""Faults that may be armed at the same time."""
