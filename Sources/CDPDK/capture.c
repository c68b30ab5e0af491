#define _GNU_SOURCE
#include "cdpdk.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

// EAL writes its usage and its fatal messages with printf and fprintf, whatever the log stream is.
int cdpdk_output_divert(cdpdk_output *saved) {
  fflush(stdout);
  fflush(stderr);
  saved->memory = memfd_create("eal-output", MFD_CLOEXEC);
  if (saved->memory < 0) return -errno;
  saved->out = dup(STDOUT_FILENO);
  saved->error = dup(STDERR_FILENO);
  dup2(saved->memory, STDOUT_FILENO);
  dup2(saved->memory, STDERR_FILENO);
  return 0;
}

char *cdpdk_output_restore(cdpdk_output *saved) {
  fflush(stdout);
  fflush(stderr);
  dup2(saved->out, STDOUT_FILENO);
  dup2(saved->error, STDERR_FILENO);
  close(saved->out);
  close(saved->error);
  off_t size = lseek(saved->memory, 0, SEEK_END);
  char *text = size < 0 ? NULL : calloc(1, (size_t)size + 1);
  if (text != NULL && pread(saved->memory, text, (size_t)size, 0) < 0) text[0] = 0;
  close(saved->memory);
  return text;
}
