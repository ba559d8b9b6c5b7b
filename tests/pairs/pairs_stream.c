/* SPDX-License-Identifier: Apache-2.0 */
/* FILE* and DIR*. Each is also a heap block, and mostly an open file. */
#include "pairs.h"

#include <dirent.h>
#include <stdio.h>

typedef FILE *stream;
typedef DIR *directory;
static char buffer[64];

#define RESOURCE "stream"
#define UNIT stream
#define ACQUIRER fopen
#define NEW_UNIT fopen("/dev/null", "r")
#define END_UNIT(v) fclose(v)
#define ALSO "heap|fd"
#define FLOWS FLOWS_ALL
#include "flows.inc"

#define ACQUIRER fdopen
#define NEW_UNIT fdopen(open("/dev/null", O_RDONLY), "r")
#define END_UNIT(v) fclose(v)
#define ALSO "heap|fd"
#define FLOWS FLOWS_BASIC | FLOWS_CALLS
#include "flows.inc"

#define ACQUIRER tmpfile
#define NEW_UNIT tmpfile()
#define END_UNIT(v) fclose(v)
#define ALSO "heap|fd"
#define FLOWS FLOWS_LIFE
#include "flows.inc"

#define ACQUIRER fmemopen
#define NEW_UNIT fmemopen(buffer, sizeof buffer, "r")
#define END_UNIT(v) fclose(v)
#define ALSO "heap"
#define FLOWS FLOWS_DATA
#include "flows.inc"

#define ACQUIRER popen
#define NEW_UNIT popen("exit 0", "r")
#define END_UNIT(v) pclose(v)
#define ALSO "heap|fd|child"
#define FLOWS FLOWS_CONTROL
#include "flows.inc"
#undef UNIT
#undef RESOURCE

#define RESOURCE "directory"
#define UNIT directory
#define ACQUIRER opendir
#define NEW_UNIT opendir("/proc/self/task")
#define END_UNIT(v) closedir(v)
#define ALSO "heap|fd"
#define FLOWS FLOWS_ALL
#include "flows.inc"

#define ACQUIRER fdopendir
#define NEW_UNIT fdopendir(open("/proc/self/task", O_RDONLY | O_DIRECTORY))
#define END_UNIT(v) closedir(v)
#define ALSO "heap|fd"
#define FLOWS FLOWS_CALLS | FLOWS_LIFE
#include "flows.inc"
