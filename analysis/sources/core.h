/* SPDX-License-Identifier: MIT */
/*
 * core.h - evidence and history from an ELF core file
 *
 * Cores of the kernel, of gdb (gcore) and of coredumpctl, whole or truncated;
 * of stripped, static and position-independent programs. A core has memory and
 * registers, but nothing that the kernel keeps: what it cannot show is told in
 * ev->unseen.
 *
 * Thread ids are those of the core's notes. The kernel writes them as the
 * target's own PID namespace numbers them, gdb as its own namespace does.
 */
#ifndef BHT_CORE_H
#define BHT_CORE_H

#include "registry.h"

/*
 * Reads the core at path CORE, which EV borrows. EXE, or NULL, is the program
 * or library that has the note, for a core without that page; otherwise the
 * files that the core names are tried. *HISTORY owns what it needs; it is NULL
 * when no ring could be read. 0 or -errno, with REFUSAL naming file, offset and
 * reason, and nothing to free:
 *   ENOEXEC  no ELF file, or no core
 *   EPROTO   of another machine, or with a note that this reader does not know
 *   EBADMSG  damaged, or truncated beyond use
 *   ENOENT   no such file; or no bhtrace note in it, nor anything that an adapter recognises
 *   ENOMSG   an adapter does, and no loop is found
 *   ENOTSUP  an adapter does, but its structures could not be placed
 *   EINVAL, E2BIG  no regular file, or one with too many headers
 * Not thread-safe.
 */
int bht_core_open(const char *core, const char *exe, struct bht_evidence *ev, struct bht_source **history,
		  struct bht_refusal *refusal);

#endif
