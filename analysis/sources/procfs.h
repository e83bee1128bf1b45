/* SPDX-License-Identifier: MIT */
/* procfs.h - what the kernel tells of a process: threads and file descriptors */
#ifndef BHT_PROCFS_H
#define BHT_PROCFS_H

#include "evidence.h"

/* A growing buffer for the files of /proc, NUL-terminated. */
struct bht_text {
	char *data;
	size_t len;
	size_t size;
};

/* Thread ids of the target's PID namespace and ours. */
struct bht_tids {
	bool same; /* it is our namespace */
	struct bht_tid_pair {
		uint32_t theirs, ours;
	} * pair; /* threads seen so far, unless same */
	size_t n;
};

struct bht_procfs {
	int dir;            /* /proc/PID */
	int files;          /* the same, or task/SPEAKER below it: maps, fdinfo, fd, ns */
	uint32_t pid;       /* in our PID namespace */
	uint32_t speaker;   /* thread that still has the process's memory: a main thread may have exited */
	uint32_t ns_pid;    /* in its own, 0 when not known */
	bool other_time_ns; /* its CLOCK_MONOTONIC is not ours */
	bool no_schedstat;  /* the kernel does not have it */
	struct bht_text text;
	struct bht_tids tids;
};

/* bht_tid_map for ARG, a struct bht_tids; 0 for a thread that is not known. */
uint32_t bht_tids_map(void *arg, uint32_t ns_tid);

/* Reads the file at PATH below DIR into TEXT, replacing what it held. 0 or
 * -errno, -EFBIG when it is longer than any file of /proc should be. */
int bht_text_read(struct bht_text *text, int dir, const char *path);

/* The same for a file of many records, which the kernel hands out in parts:
 * bht_text_read() takes the first short read for the end. */
int bht_text_read_list(struct bht_text *text, int dir, const char *path);

/* The text behind KEY at the start of a line of TEXT, which may itself be within
 * a line; or NULL. */
const char *bht_line_value(const char *text, const char *key);

/* Opens /proc/PID; 0 or -errno. bht_procfs_close() in any case. */
int bht_procfs_open(struct bht_procfs *p, uint32_t pid);
void bht_procfs_close(struct bht_procfs *p);

/* One thread's or process's stat line: name, state, cpu_ns; *FLAGS (PF_*) and
 * may be NULL. 0 or -EBADMSG. */
int bht_parse_stat(const char *text, struct bht_thread *thread, uint32_t *flags);

/* A line of /proc/PID/task/TID/syscall into thread->syscall and args. */
void bht_parse_syscall(const char *text, struct bht_thread *thread);

/* Stack pointer and program counter of a thread that is in a system call, or was stopped. 0 or -errno, -EBUSY when
 * it runs. */
int bht_procfs_registers(struct bht_procfs *p, uint32_t tid, uint64_t *sp, uint64_t *pc);

/* Appends all threads to SAMPLE; what they hide goes to ev->unseen. 0 or
 * -errno. */
int bht_procfs_threads(struct bht_procfs *p, struct bht_evidence *ev, struct bht_sample *sample);

/* The kernel function that THREAD sleeps in into thread->wchan. */
void bht_procfs_wchan(struct bht_procfs *p, struct bht_thread *thread);

/* Reads the fdinfo of FD into p->text. 0 or -errno. */
int bht_procfs_fdinfo(struct bht_procfs *p, int32_t fd);
/* What FD is: 'e' eventfd, 'p' epoll set, 'f' pipe, 's' socket, '?' anything else, 0 not open. */
char bht_procfs_descriptor(const struct bht_procfs *p, int32_t fd);
bool bht_procfs_is_epoll(const struct bht_procfs *p, int32_t fd);

#endif
