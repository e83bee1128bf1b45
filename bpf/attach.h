/* SPDX-License-Identifier: MIT */
/*
 * attach.h - USDT probes of processes, as they come and go
 *
 * A probe sits in a file. Which files of a process have sites of provider "bh" is
 * found in its maps, and each (process, file) is attached once; a file that is
 * mapped later is found when the process is looked at again. Files are reached through
 * /proc/PID/root, so the process may be in another mount namespace; one that was
 * deleted or replaced meanwhile is said.
 *
 * A process is named by its id in the initial PID namespace. Not thread-safe.
 */
#ifndef BHB_ATTACH_H
#define BHB_ATTACH_H

#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stdint.h>

#include "record.h"

enum { BHB_EVENTS = 32, BHB_WHY = 400 };

/* Programs by number of the event; NULL: not wanted. */
struct bhb_programs {
	struct bpf_program *of[BHB_EVENTS];
	const struct bpf_map *specs; /* attached through links to many (multi.h); NULL: through libbpf */
};

/* To be called before OBJECT, which they are of, is loaded: chooses how they will be attached. */
void bhb_programs_prepare(struct bhb_programs *programs, const struct bpf_object *object);

struct bhb_attached;

/* PROGRAMS is copied. EVERYBODY: probes are hit by all processes that use a file, now and
 * later, and the programs choose; otherwise by the processes that were looked at. NULL with ENOMEM. */
struct bhb_attached *bhb_attached_new(const struct bhb_programs *programs, bool everybody);

/*
 * Attaches to what is new in the maps of PID. Gives how many sites' files were new (0:
 * nothing), or -errno with a sentence in WHY: ESRCH, EACCES, EPERM, and what the kernel
 * gives. What could not be attached in a process that has other files goes to WHY, too.
 */
int bhb_attach(struct bhb_attached *a, uint32_t pid, char why[BHB_WHY]);

/* The process has exited, or executes another program. */
void bhb_forget(struct bhb_attached *a, uint32_t pid);

struct bhb_attach_stats {
	unsigned files, links; /* attached now */
	uint64_t attach_ns;    /* it took so long to attach them, in all */
	unsigned
		bystanders; /* with EVERYBODY: processes that use these files and were not asked for, at the last look */
};
struct bhb_attach_stats bhb_attach_stats(const struct bhb_attached *a);

/* Detaches everything. Through libbpf the kernel does that one site after the other, for all processes of the
 * machine, and takes 70 to 110 ms for each, more under load: what has to be quick comes before. */
void bhb_attached_free(struct bhb_attached *a);

/*
 * Whether probes of PID are attached through its main thread alone, which is how the kernel
 * knows a process: without it, they are silent, or will be when anybody else detaches from
 * the same file. bhb_attach() then does it another way.
 */
bool bhb_attached_to_leader(const struct bhb_attached *a, uint32_t pid);

/*
 * Whether the probes of a process are those of a child with the same memory, too: through libbpf
 * the kernel goes by memory; through links to many, by process.
 */
bool bhb_attached_by_memory(const struct bhb_attached *a);

/* Whether a file of PID has sites, attached by bhb_attach(). */
bool bhb_attached_any(const struct bhb_attached *a, uint32_t pid);

/*
 * Whether the ELF file PATH has USDT sites of provider "bh": their number, or -errno
 * with the reason in WHY: ENOEXEC: no ELF file; EBADMSG: a damaged one.
 */
int bhb_sites(const char *path, char why[BHB_WHY]);

/* The same of an open file, which is called NAME. *EVENTS gets a bit for each event that it has
 * sites of; those that this schema does not know are not counted. ENOTSUP: they are of
 * another version of it, or for another kind of machine. */
int bhb_sites_of(int fd, const char *name, uint32_t *events, char why[BHB_WHY]);

/* From here on libbpf keeps its warnings for itself; the last one since this call is what bhb_said() gives,
 * without its prefix and line end, or "". Of the whole process. */
void bhb_hush(void);
const char *bhb_said(void);

#endif
