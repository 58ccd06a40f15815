/* The floor: what SQLite and the kernel need for a durable page, in one thread of C.

   It answers pulls of one mailbox of a store in the product's own format: a page is read, its
   journal row is written, the cursor moves; whoever asks at the same time shares one commit, which
   is synced before the answers leave. The log is folded as often as the product folds it.

   Left out: reading the call (each request is taken for a pull of a whole chunk), signatures,
   permissions, checksums, decompression, everything that may go wrong. The chunks are plain, as
   they are before they are compressed, on pages of 8 KiB. What is handed out is handed out again
   from the first chunk on when nothing is left, so that a small store lasts for any time.

       floor FILE SDKAPPID      prints where it listens; ends at TERM, the log folded

   Compiled by bench/floor.py, which defines FOLD_PAGES. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define REQUEST_MAX 16384
#define SEQ_BITS 40

typedef struct {
  int fd, size;
  char received[REQUEST_MAX];
} Connection;

typedef struct { /* what one of those who share a commit gets */
  char *body;
  int size, count;
  sqlite3_int64 first;
} Page;

static sqlite3 *db;
static sqlite3_stmt *begin, *commit, *read_chunk, *write_journal, *move_cursor;
static sqlite3_int64 mailbox, cursor, tail;
static int log_pages;
static unsigned long long tickets;
static volatile sig_atomic_t stopped;
static Connection *connections[CONNECTIONS_MAX];
static Page pages[CONNECTIONS_MAX];

static void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, db ? sqlite3_errmsg(db) : strerror(errno));
  exit(1);
}

static void must(int result, const char *what) {
  if (result != SQLITE_OK && result != SQLITE_DONE) fail(what);
}

static void run(const char *sql) { must(sqlite3_exec(db, sql, 0, 0, 0), sql); }

static sqlite3_stmt *prepared(const char *sql) {
  sqlite3_stmt *statement;
  must(sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, 0), sql);
  return statement;
}

static void step(sqlite3_stmt *statement) {
  must(sqlite3_step(statement), sqlite3_sql(statement));
  must(sqlite3_reset(statement), sqlite3_sql(statement));
}

static void stop(int number) { (void)number, stopped = 1; }

static int count_log_pages(void *context, sqlite3 *of, const char *name, int count) {
  (void)context, (void)of, (void)name, log_pages = count;
  return SQLITE_OK;
}

static void open_store(const char *file, const char *sdkappid) {
  if (sqlite3_open_v2(file, &db, SQLITE_OPEN_READWRITE, 0)) fail(file);
  run("PRAGMA journal_mode = wal; PRAGMA synchronous = 2; PRAGMA secure_delete = 1;"
      "PRAGMA cache_size = -65536; PRAGMA journal_size_limit = 67108864;"
      "PRAGMA wal_autocheckpoint = 0");
  sqlite3_wal_hook(db, count_log_pages, 0);
  sqlite3_stmt *find =
      prepared("SELECT id, tail, cursor FROM mailbox WHERE sdkappid = ? AND kind = 0");
  sqlite3_bind_text(find, 1, sdkappid, -1, SQLITE_STATIC);
  if (sqlite3_step(find) != SQLITE_ROW) fail("no such mailbox");
  mailbox = sqlite3_column_int64(find, 0);
  tail = sqlite3_column_int64(find, 1);
  cursor = sqlite3_column_int64(find, 2);
  sqlite3_finalize(find);
  begin = prepared("BEGIN IMMEDIATE");
  commit = prepared("COMMIT");
  read_chunk = prepared("SELECT count, body FROM chunk WHERE key = ?");
  write_journal = prepared(
      "INSERT INTO journal (key, count, outcome, at_ms, address, pull_key, count_max, proof,"
      " ticket) VALUES (?, ?, 0, ?, '127.0.0.1', NULL, 100, ?, ?)");
  move_cursor =
      prepared("UPDATE mailbox SET cursor = ?1, handed_out = handed_out + ?2 WHERE id = ?3");
}

static void begin_again(void) {
  run("DELETE FROM journal");
  cursor = 0;
}

static void take_page(Page *page, time_t now) {
  if (cursor >= tail) begin_again();
  page->first = cursor + 1;
  sqlite3_int64 key = mailbox << SEQ_BITS | page->first;
  sqlite3_bind_int64(read_chunk, 1, key);
  if (sqlite3_step(read_chunk) != SQLITE_ROW) fail("no chunk begins at the cursor");
  page->count = sqlite3_column_int(read_chunk, 0);
  const void *body = sqlite3_column_blob(read_chunk, 1);
  page->size = sqlite3_column_bytes(read_chunk, 1);
  if (!(page->body = realloc(page->body, page->size))) fail("memory");
  memcpy(page->body, body, page->size);
  sqlite3_reset(read_chunk);

  char proof[64];
  unsigned long long ticket[2] = {(unsigned long long)mailbox, ++tickets};
  snprintf(proof, sizeof proof, "random=7 time=%lld", (long long)now);
  sqlite3_bind_int64(write_journal, 1, key);
  sqlite3_bind_int(write_journal, 2, page->count);
  sqlite3_bind_int64(write_journal, 3, now * 1000LL);
  sqlite3_bind_text(write_journal, 4, proof, -1, SQLITE_STATIC);
  sqlite3_bind_blob(write_journal, 5, ticket, sizeof ticket, SQLITE_STATIC);
  step(write_journal);
  cursor += page->count;
}

static void take_pages(int count, time_t now) {
  sqlite3_int64 records = 0;
  step(begin);
  for (int each = 0; each < count; each++) {
    take_page(&pages[each], now);
    records += pages[each].count;
  }
  sqlite3_bind_int64(move_cursor, 1, cursor);
  sqlite3_bind_int64(move_cursor, 2, records);
  sqlite3_bind_int64(move_cursor, 3, mailbox);
  step(move_cursor);
  step(commit);
}

static void answer(int fd, const Page *page, const char *date) {
  char head[512], lead[128];
  int lead_size =
      snprintf(lead, sizeof lead,
               "{\"result\":0,\"errmsg\":\"ok\",\"type\":0,\"count\":%d,\"data\":[", page->count);
  int head_size = snprintf(
      head, sizeof head,
      "HTTP/1.1 200 OK\r\ndate: %s\r\ncontent-type: application/json\r\n"
      "cache-control: no-store\r\npullstatus-waiting: %lld\r\npullstatus-pull-id: %lld\r\n"
      "content-length: %d\r\n\r\n",
      date, tail - cursor, page->first, lead_size + page->size + 2);
  struct iovec parts[] = {
      {head, head_size}, {lead, lead_size}, {page->body, page->size}, {"]}", 2}};
  ssize_t size = head_size + lead_size + page->size + 2;
  if (writev(fd, parts, 4) != size) fail("an answer did not go out in one write");
}

/* Whether a whole request is there. Whoever asks waits for the answer before asking again. */
static int request_came(Connection *connection) {
  connection->received[connection->size] = 0;
  char *end = strstr(connection->received, "\r\n\r\n");
  if (!end) return 0;
  char *length = strcasestr(connection->received, "\r\ncontent-length:");
  int due = end + 4 - connection->received + (length && length < end ? atoi(length + 17) : 0);
  if (connection->size < due) return 0;
  connection->size = 0;
  return 1;
}

static void accept_all(int listener, int poller) {
  int fd, one = 1;
  while ((fd = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
    if (fd >= CONNECTIONS_MAX) fail("too many connections");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!(connections[fd] = calloc(1, sizeof(Connection)))) fail("memory");
    connections[fd]->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
  }
}

/* Whether the connection now has a request that wants an answer. */
static int receive(Connection *connection) {
  int space = REQUEST_MAX - 1 - connection->size;
  ssize_t size = read(connection->fd, connection->received + connection->size, space);
  if (size < 0 && errno == EAGAIN) return 0;
  if (size <= 0) {
    connections[connection->fd] = 0;
    close(connection->fd);
    free(connection);
    return 0;
  }
  connection->size += size;
  return request_came(connection);
}

static int listen_on_loopback(void) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1024)) fail("listen");
  getsockname(listener, (struct sockaddr *)&address, &size);
  printf("http://127.0.0.1:%d\n", ntohs(address.sin_port));
  fflush(stdout);
  return listener;
}

static void serve(void) {
  int listener = listen_on_loopback(), poller = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[CONNECTIONS_MAX];
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
  while (!stopped) {
    int asking[CONNECTIONS_MAX], count = 0;
    int happened = epoll_wait(poller, events, CONNECTIONS_MAX, 1000);
    for (int each = 0; each < happened; each++) {
      int fd = events[each].data.fd;
      if (fd == listener)
        accept_all(listener, poller);
      else if (receive(connections[fd]))
        asking[count++] = fd;
    }
    if (!count) continue;
    char date[64];
    time_t now = time(0);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
    take_pages(count, now);
    for (int each = 0; each < count; each++) answer(asking[each], &pages[each], date);
    if (log_pages >= FOLD_PAGES)
      must(sqlite3_wal_checkpoint_v2(db, 0, SQLITE_CHECKPOINT_PASSIVE, 0, 0), "fold");
  }
}

int main(int count, char **arguments) {
  if (count != 3) return 2;
  signal(SIGTERM, stop);
  signal(SIGPIPE, SIG_IGN);
  open_store(arguments[1], arguments[2]);
  serve();
  sqlite3_stmt *all[] = {begin, commit, read_chunk, write_journal, move_cursor};
  for (int each = 0; each < 5; each++) sqlite3_finalize(all[each]);
  must(sqlite3_wal_checkpoint_v2(db, 0, SQLITE_CHECKPOINT_TRUNCATE, 0, 0), "fold");
  must(sqlite3_close(db), "close");
  return 0;
}
