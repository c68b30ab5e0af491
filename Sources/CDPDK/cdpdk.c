#define _GNU_SOURCE
#include "cdpdk.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

int cdpdk_affinity_get(uint64_t *mask, int words) {
  return pthread_getaffinity_np(pthread_self(), (size_t)words * 8, (cpu_set_t *)mask);
}

int cdpdk_affinity_set(const uint64_t *mask, int words) {
  return pthread_setaffinity_np(pthread_self(), (size_t)words * 8, (const cpu_set_t *)mask);
}

static cdpdk_log_handler log_handler;

// rte_vlog writes and flushes once per message.
static ssize_t log_write(void *cookie, const char *text, size_t length) {
  (void)cookie;
  int level = rte_log_cur_msg_loglevel();
  log_handler(level < 0 ? RTE_LOG_INFO : (uint32_t)level, text, length);
  return (ssize_t)length;
}

int cdpdk_log_capture(cdpdk_log_handler handler) {
  cookie_io_functions_t functions = {.write = log_write};
  log_handler = handler;
  FILE *stream = fopencookie(NULL, "w", functions);
  if (stream == NULL) return -errno;
  return rte_openlog_stream(stream) == 0 ? 0 : -EIO;
}
