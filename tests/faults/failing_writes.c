/* Makes writes below one folder fail: the n-th one, or all from the n-th on.

   cc -shared -fPIC -O1 -o failing_writes.so failing_writes.c -ldl
   LD_PRELOAD=failing_writes.so FAIL_UNDER=/folder FAIL_AT=7 FAIL_ERRNO=28 FAIL_FOR_EVER=1 command

   What counts are the calls that change a disk: write, pwrite, writev, fsync, fdatasync, ftruncate, rename, mkdir, unlink,
   and open where it makes a file. FAIL_SHORT=1: the n-th call, where it writes, writes half and succeeds. A process may
   set the same anew with fail_at(), and ask with fail_count() how many calls there were since.
   Linux with glibc; the path of a descriptor comes from /proc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char under[PATH_MAX];
static long at, calls;
static int error_number, is_short, for_ever;

void fail_at(const char *folder, long n, int number, int half, int ever) {
    snprintf(under, sizeof under, "%s", folder);
    error_number = number, is_short = half, for_ever = ever;
    __atomic_store_n(&calls, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&at, n, __ATOMIC_SEQ_CST);
}

long fail_count(void) { return __atomic_load_n(&calls, __ATOMIC_SEQ_CST); }

static long from_environment(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("FAIL_UNDER");
    if (folder)
        fail_at(folder, from_environment("FAIL_AT"), (int)from_environment("FAIL_ERRNO"),
                (int)from_environment("FAIL_SHORT"), (int)from_environment("FAIL_FOR_EVER"));
}

enum verdict { PASS, FAIL, HALF };

static enum verdict judge_path(const char *path, int can_be_short) {
    size_t length = strlen(under);
    if (!length || !path || strncmp(path, under, length) || (path[length] && path[length] != '/'))
        return PASS;
    long n = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (!at || n < at || (n > at && !for_ever))
        return PASS;
    if (n == at && is_short)
        return can_be_short ? HALF : PASS;
    if (!error_number)
        return PASS;
    errno = error_number;
    return FAIL;
}

static enum verdict judge(int descriptor, int can_be_short) {
    char link[64], path[PATH_MAX];
    int before = errno;
    if (!under[0])
        return PASS;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return PASS;
    path[length] = 0;
    return judge_path(path, can_be_short);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t count) {
    REAL(ssize_t, "write", int, const void *, size_t);
    enum verdict verdict = count ? judge(fd, 1) : PASS;
    return verdict == FAIL ? -1 : real(fd, data, verdict == HALF ? (count + 1) / 2 : count);
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t where) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    enum verdict verdict = judge(fd, 1);
    return verdict == FAIL ? -1 : real(fd, data, verdict == HALF ? (count + 1) / 2 : count, where);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off64_t where) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    enum verdict verdict = judge(fd, 1);
    return verdict == FAIL ? -1 : real(fd, data, verdict == HALF ? (count + 1) / 2 : count, where);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    enum verdict verdict = judge(fd, 1);
    return verdict == FAIL ? -1 : verdict == HALF ? real(fd, parts, 1) : real(fd, parts, count);
}

#define ON_DESCRIPTOR(name) \
    int name(int fd) { \
        REAL(int, #name, int); \
        return judge(fd, 0) == FAIL ? -1 : real(fd); \
    }
ON_DESCRIPTOR(fsync)
ON_DESCRIPTOR(fdatasync)

int ftruncate(int fd, off_t length) {
    REAL(int, "ftruncate", int, off_t);
    return judge(fd, 0) == FAIL ? -1 : real(fd, length);
}

int ftruncate64(int fd, off64_t length) {
    REAL(int, "ftruncate64", int, off64_t);
    return judge(fd, 0) == FAIL ? -1 : real(fd, length);
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    return judge_path(to, 0) == FAIL ? -1 : real(from, to);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *);
    return judge_path(to, 0) == FAIL ? -1 : real(from_fd, from, to_fd, to);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    return judge_path(to, 0) == FAIL ? -1 : real(from_fd, from, to_fd, to, flags);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    return judge_path(path, 0) == FAIL ? -1 : real(path, mode);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    return judge_path(path, 0) == FAIL ? -1 : real(path);
}

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, #name, const char *, int, mode_t); \
        MODE; \
        return flags & O_CREAT && judge_path(path, 0) == FAIL ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(int, #name, int, const char *, int, mode_t); \
        MODE; \
        return flags & O_CREAT && judge_path(path, 0) == FAIL ? -1 : real(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)
