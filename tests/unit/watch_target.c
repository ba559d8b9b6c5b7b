/* SPDX-License-Identifier: Apache-2.0 */
/* A process whose functions are watched: it does what the test asks for, one letter on descriptor 0
 * at a time, and answers on 1 with the letter, or '!' when something went wrong for itself. What it
 * leaves open, the test finds in /proc. Start: act. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define SHOW __attribute__((noinline, visibility("default")))

extern char **environ;

/* Declared handles. */
SHOW int handle_acquire(int wish, int *out);
SHOW int handle_release(int handle);
SHOW double handle_many(double x, long a, long b, long c, long d, long e, long f, long g, long h,
                        double y);

int handle_acquire(int wish, int *out)
{
    if (wish < 0)
        return -1;
    *out = wish;
    errno = 42;
    return 0;
}

int handle_release(int handle)
{
    /* The call that errno is stands among the first instructions. */
    errno = 43;
    return handle == 13 ? -1 : 0;
}

double handle_many(double x, long a, long b, long c, long d, long e, long f, long g, long h,
                   double y)
{
    return x + 2 * y +
           (double)(a + 10 * b + 100 * c + 1000 * d + 10000 * e + 100000 * f + 1000000 * g +
                    10000000 * h);
}

/* A probe in a function that keeps words in its red zone, and the flags over it. All of it is
 * written here, since the compiler knows nothing of that use. */
long handle_probed(long handle);
__asm__(".text\n"
        ".globl handle_probed, handle_probe\n"
        ".type handle_probed, @function\n"
        "handle_probed:\n"
        ".cfi_startproc\n"
        "movq %rdi, -8(%rsp)\n"
        "movq $7, -128(%rsp)\n"
        "movq $1000, %r11\n"
        "movq $100, %rax\n"
        "cmpq %rdi, %rdi\n"
        "handle_probe: .byte 0x0f, 0x1f, 0x44, 0, 0\n"
        "jne 1f\n"
        "addq -8(%rsp), %rax\n"
        "addq -128(%rsp), %rax\n"
        "addq %r11, %rax\n"
        "1: ret\n"
        ".cfi_endproc\n"
        ".size handle_probed, . - handle_probed\n");

/* Within one program a caller keeps values in all registers that it sees the callee leave alone
 * (gcc -fipa-ra). Opens and closes `fd`; the sum of what was kept over both calls. */
long registers_kept(long fd);
__asm__(".text\n"
        ".globl kept_open, kept_close, registers_kept\n"
        ".type kept_open, @function\n"
        "kept_open:\n"
        "movq %rdi, %rax\n"
        "nopl 8(%rax)\n"
        "ret\n"
        ".size kept_open, . - kept_open\n"
        ".type kept_close, @function\n"
        "kept_close:\n"
        "xorl %eax, %eax\n"
        "nopl 8(%rax)\n"
        "ret\n"
        ".size kept_close, . - kept_close\n"
        ".type registers_kept, @function\n"
        "registers_kept:\n"
        ".cfi_startproc\n"
        "pushq %rbx\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_offset rbx, -16\n"
        "movq %rdi, %rbx\n"
        "movl $0x1, %ecx\n"
        "movl $0x20, %edx\n"
        "movl $0x300, %esi\n"
        "movl $0x4000, %r8d\n"
        "movl $0x50000, %r9d\n"
        "movl $0x600000, %r10d\n"
        "movl $0x7000000, %r11d\n"
        "call kept_open\n"
        "cmpq %rbx, %rax\n"
        "jne 1f\n"
        "cmpq %rbx, %rdi\n"
        "jne 1f\n"
        "call kept_close\n"
        "cmpq %rbx, %rdi\n"
        "jne 1f\n"
        "leaq (%rcx,%rdx), %rax\n"
        "addq %rsi, %rax\n"
        "addq %r8, %rax\n"
        "addq %r9, %rax\n"
        "addq %r10, %rax\n"
        "addq %r11, %rax\n"
        "1: popq %rbx\n"
        ".cfi_adjust_cfa_offset -8\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size registers_kept, . - registers_kept\n");

static bool fails;

static void check(bool good, int line)
{
    if (good)
        return;
    fprintf(stderr, "watch_target: line %d went wrong, errno %d\n", line, errno);
    fails = true;
}
#define CHECK(good) check(good, __LINE__)

static const char *const file = "/proc/self/exe";

static void files(void)
{
    int a = open(file, O_RDONLY), b = open64(file, O_RDONLY | O_CLOEXEC),
        c = openat(AT_FDCWD, file, O_RDONLY);
    CHECK(a > 0 && b > 0 && c > 0);
    CHECK(close(b) == 0);
    errno = 0;
    CHECK(open("/nonexistent", O_RDONLY) == -1 && errno == ENOENT);
    CHECK(close(-1) == -1 && errno == EBADF);
    errno = 7;
    c = open(file, O_RDONLY);
    CHECK(c > 0 && close(c) == 0 && errno == 7);
}

static void duplicates(void)
{
    int a = open(file, O_RDONLY), s = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(dup(a) > 0 && dup(s) > 0 && fcntl(a, F_DUPFD, 50) >= 50 && fcntl(a, F_GETFL) >= 0);
    CHECK(dup2(a, 60) == 60 && dup2(s, 60) == 60 && dup2(a, a) == a && dup3(a, 61, 0) == 61);
    CHECK(dup2(1000000, 61) == -1 && dup2(999, 61) == -1 && dup3(a, a, 0) == -1);
    CHECK(fcntl(a, F_DUPFD_CLOEXEC, 50) >= 50);
    CHECK(close(s) == 0);
}

static void pairs(void)
{
    int p[2], q[2], s[2];
    CHECK(pipe(p) == 0 && pipe2(q, O_CLOEXEC) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    CHECK(close(p[0]) == 0 && close(s[1]) == 0);
    int *volatile nowhere = (int *)8;
    CHECK(pipe(nowhere) == -1 && errno == EFAULT);
}

static void ranges(void)
{
    for (int i = 100; i < 120; i++)
        CHECK(dup2(0, i) == i);
    CHECK(close_range(105, 109, 0) == 0 && close_range(100, 119, 4) == 0);
    CHECK(close_range(9, 8, 0) == -1);
    closefrom(116);
}

static FILE *kept;
static void streams(void)
{
    FILE *a = fopen(file, "r"), *b = fopen(file, "r"), *c = fdopen(open(file, O_RDONLY), "r");
    CHECK(a && b && c && !fopen("/nonexistent", "r"));
    DIR *d = opendir("/proc/self"), *e = opendir("/");
    CHECK(d && e && !opendir(file));
    CHECK(fclose(a) == 0 && fclose(c) == 0 && closedir(d) == 0);
    b = freopen("/proc/self/status", "r", b);
    CHECK(b);
    FILE *p = popen("true", "r");
    CHECK(p && pclose(p) == 0);
    kept = popen("cat", "w");
    CHECK(kept && system("true") == 0);
}

/* Unmapped parts; what is left is 4 pieces of 3, 2, 4 and 10 pages. */
static void maps(void)
{
    char *a = mmap(NULL, 10 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *b = mmap(NULL, 8 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(a != MAP_FAILED && b != MAP_FAILED);
    CHECK(munmap(a + 3 * PAGE, 4 * PAGE) == 0 && munmap(a + 9 * PAGE, PAGE) == 0);
    CHECK(mmap(b, 8 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == b);
    CHECK(munmap(b, 4 * PAGE) == 0 && munmap(a + 1, PAGE) == -1 && munmap(a, 0) == -1);
    char *c = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *d = mremap(c, 2 * PAGE, 10 * PAGE, MREMAP_MAYMOVE);
    CHECK(d != MAP_FAILED && mremap(d, 10 * PAGE, PAGE, 1 << 20) == MAP_FAILED);
    CHECK(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
}

static void *nothing(void *arg)
{
    return arg;
}

static atomic_int detached;
static void *detaches(void *arg)
{
    pthread_detach(pthread_self());
    detached++;
    return arg;
}

static void threads(void)
{
    pthread_t t[3];
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    CHECK(pthread_create(&t[0], NULL, nothing, NULL) == 0 && pthread_join(t[0], NULL) == 0);
    CHECK(pthread_create(&t[1], &attr, nothing, NULL) == 0); /* left */
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    CHECK(pthread_create(&t[2], &attr, nothing, NULL) == 0);
    for (int i = 0; i < 200; i++)
        CHECK(pthread_create(&t[2], NULL, detaches, NULL) == 0);
    while (detached % 200 != 0)
        sched_yield();
    CHECK(pthread_create(&t[0], NULL, nothing, NULL) == 0 && pthread_detach(t[0]) == 0);
    pthread_attr_destroy(&attr);
}

static void limits(void)
{
    struct rlimit before, little;
    getrlimit(RLIMIT_NOFILE, &before);
    little = (struct rlimit){0, before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &little);
    int p[2];
    CHECK(open(file, O_RDONLY) == -1 && errno == EMFILE && pipe(p) == -1 && dup(0) == -1);
    CHECK(socket(AF_INET, SOCK_STREAM, 0) == -1 && !fopen(file, "r"));
    setrlimit(RLIMIT_NOFILE, &before);
}

static void *opens(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        int fd = i % 2 ? open(file, O_RDONLY) : dup(0);
        CHECK(fd > 0 && close(fd) == 0);
    }
    return arg;
}

static void race(void)
{
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, opens, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
}

static atomic_int given = -1;
static atomic_uint handled;
static void on_alarm(int signal)
{
    int fd = atomic_exchange(&given, -1), saved = errno;
    (void)signal;
    if (fd >= 0)
        close(fd);
    else if ((fd = dup(0)) >= 0)
        close(fd);
    handled++;
    errno = saved;
}

static void handler(void)
{
    struct sigaction act = {.sa_handler = on_alarm, .sa_flags = SA_RESTART}, old;
    sigaction(SIGALRM, &act, &old);
    const struct itimerval every = {{0, 100}, {0, 100}}, never = {0};
    setitimer(ITIMER_REAL, &every, NULL);
    for (int i = 0; handled < 2000 && i < 10000000; i++) {
        int fd = open(file, O_RDONLY), other = dup(fd);
        CHECK(fd > 0 && other > 0 && close(other) == 0);
        fd = atomic_exchange(&given, fd);
        if (fd >= 0)
            close(fd);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    int fd = atomic_exchange(&given, -1);
    if (fd >= 0)
        close(fd);
    sigaction(SIGALRM, &old, NULL);
}

/* A function of its own: what vfork's child leaves on the stack is not its parent's. */
static __attribute__((noinline)) pid_t vforked(int a)
{
    pid_t pid = vfork();
    if (pid == 0) {
        close(a);
        dup2(0, 90);
        close(open(file, O_RDONLY));
        _exit(dup(0) > 0 ? 5 : 6);
    }
    return pid;
}

static void children(void)
{
    int a = open(file, O_RDONLY), status;
    pid_t pid = fork();
    if (pid == 0) {
        close(a);
        _exit(close(dup(0)) == 0 ? 3 : 4);
    }
    CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3);
    pid = vforked(a);
    CHECK(wait(&status) == pid && WEXITSTATUS(status) == 5);
    CHECK(fcntl(a, F_GETFD) >= 0 && fcntl(90, F_GETFD) == -1);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addclose(&actions, a);
    posix_spawn_file_actions_addopen(&actions, 91, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions, 91, 1);
    char *argv[] = {"true", NULL};
    siginfo_t info;
    CHECK(posix_spawnp(&pid, "true", &actions, NULL, argv, environ) == 0);
    CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
    CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED) == 0 && info.si_pid == pid);
    posix_spawn_file_actions_destroy(&actions);
    CHECK(vforked(a) > 0); /* two that nobody waits for */
    pid = fork();
    if (pid == 0)
        _exit(0);
    CHECK(waitpid(-2, &status, WNOHANG | WUNTRACED) == -1);
}

static void passes(void)
{
    int s[2], got = -1, b = open(file, O_RDONLY), c = open(file, O_RDONLY);
    char byte = 'x';
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct iovec piece = {&byte, 1};
    struct msghdr m = {.msg_iov = &piece,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(h), (int[]){b, c}, 2 * sizeof(int));
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0 && sendmsg(s[0], &m, 0) == 1);
    memset(&control, 0, sizeof control);
    CHECK(recvmsg(s[1], &m, 0) == 1 && (h = CMSG_FIRSTHDR(&m)) != NULL);
    memcpy(&got, CMSG_DATA(h), sizeof got);
    CHECK(fcntl(got, F_GETFD) >= 0 && close(b) == 0 && close(got) == 0);
    CHECK(recvmsg(-1, &m, 0) == -1);
}

static int listener(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(s, (struct sockaddr *)&a, n) == 0 && listen(s, 5) == 0 &&
          getsockname(s, (struct sockaddr *)&a, &n) == 0);
    *port = a.sin_port;
    return s;
}

static int connected(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(s, (struct sockaddr *)&a, sizeof a) == 0);
    return s;
}

/* Descriptor 200 is opened for the first peer, 201 for the second, 202 for nobody, 203 for a sender
 * of datagrams. */
static void owners(void)
{
    uint16_t port;
    char byte;
    struct sockaddr_in from;
    socklen_t n = sizeof from;
    int l = listener(&port), a = connected(port), b = connected(port);
    int x = accept(l, (struct sockaddr *)&from, &n), y = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    CHECK(write(a, "a", 1) == 1 && write(b, "b", 1) == 1);
    CHECK(read(x, &byte, 1) == 1 && dup2(0, 200) == 200);
    CHECK(recv(y, &byte, 1, 0) == 1 && dup2(0, 201) == 201);
    CHECK(close(y) == 0 && dup2(0, 202) == 202);
    int u = socket(AF_INET, SOCK_DGRAM, 0), v = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    n = sizeof here;
    CHECK(bind(u, (struct sockaddr *)&here, n) == 0 &&
          getsockname(u, (struct sockaddr *)&here, &n) == 0);
    CHECK(sendto(v, "v", 1, 0, (struct sockaddr *)&here, sizeof here) == 1);
    n = sizeof from;
    CHECK(recvfrom(u, &byte, 1, 0, (struct sockaddr *)&from, &n) == 1 && dup2(0, 203) == 203);
}

static int blocked_on;
static void *blocks(void *arg)
{
    int fd = accept(blocked_on, NULL, NULL);
    CHECK(fd < 0); /* nobody connects: it is cancelled here */
    return arg;
}

static void cancels(void)
{
    uint16_t port;
    blocked_on = listener(&port);
    for (int i = 0; i < 20; i++) {
        pthread_t t;
        void *result = NULL;
        CHECK(pthread_create(&t, NULL, blocks, NULL) == 0);
        if (i % 2)
            usleep(1000); /* both are right: blocked already, or not yet */
        CHECK(pthread_cancel(t) == 0 && pthread_join(t, &result) == 0);
        CHECK(result == PTHREAD_CANCELED);
    }
    CHECK(close(blocked_on) == 0);
}

/* A thread in accept, until somebody connects. */
static pthread_t waiting;
static uint16_t waiting_port;
static void *waits(void *arg)
{
    CHECK(accept(blocked_on, NULL, NULL) >= 0);
    return arg;
}

static void wait_blocked(void)
{
    blocked_on = listener(&waiting_port);
    CHECK(pthread_create(&waiting, NULL, waits, NULL) == 0);
}

static void unblock(void)
{
    close(connected(waiting_port));
    CHECK(pthread_join(waiting, NULL) == 0);
}

/* A child that holds one file more than its parent, until it is killed. */
static void fork_one(void)
{
    if (fork() != 0)
        return;
    close(open(file, O_RDONLY));
    CHECK(open(file, O_RDONLY) > 0);
    for (;;)
        pause();
}

static void declared(void)
{
    int h = 0;
    errno = 0;
    CHECK(handle_acquire(11, &h) == 0 && errno == 42 && handle_acquire(12, &h) == 0);
    CHECK(handle_acquire(13, &h) == 0 && handle_acquire(-1, &h) == -1);
    CHECK(handle_release(11) == 0 && errno == 43 && handle_release(13) == -1);
    double sum = handle_many(0.5, 1, 2, 3, 4, 5, 6, 7, 8, 0.25);
    CHECK(sum == 87654322.0);
}

/* So many that most go the agent's short way, with those between them that cannot. */
static void often(long own)
{
    for (int i = 0; i < 600; i++) {
        int a = open(file, O_RDONLY), b = socket(AF_UNIX, SOCK_STREAM, 0), c = dup(b);
        CHECK(a >= 0 && b >= 0 && c >= 0);
        CHECK(open("/nonexistent", O_RDONLY) == -1 && errno == ENOENT);
        CHECK(close(1000) == -1 && errno == EBADF);
        errno = 5;
        CHECK(close(i % 3 ? b : c) == 0 && close(a) == 0 && close(i % 3 ? c : b) == 0);
        CHECK(errno == 5 && registers_kept(own + i % 2) == 0x7654321);
    }
    CHECK(open(file, O_RDONLY) >= 0);
}

static void *often_too(void *own)
{
    often((long)own);
    return own;
}

static void often_at_once(void)
{
    pthread_t t[4]; /* each with values of its own, as nobody else gets a descriptor that is open */
    for (long i = 0; i < 4; i++)
        CHECK(pthread_create(&t[i], NULL, often_too, (void *)(400 + 2 * i)) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(t[i], NULL) == 0);
}

static void libraries(void)
{
    void *a = dlopen("libm.so.6", RTLD_NOW), *b = dlopen("libm.so.6", RTLD_NOW),
         *c = dlopen("libm.so.6", RTLD_NOW);
    CHECK(a && a == b && b == c && dlclose(c) == 0 && !dlopen("/nonexistent", RTLD_NOW));
}

static void probes(void)
{
    for (long i = 0; i < 3; i++)
        CHECK(handle_probed(300) == 1407);
    CHECK(handle_probed(301) == 1408);
}

static void *many(void *arg)
{
    char deep[256];
    memset(deep, 1, sizeof deep);
    __asm__ volatile("" : : "r"(deep) : "memory");
    declared();
    return arg;
}

static bool act(char what)
{
    static pthread_t t;
    fails = false;
    switch (what) {
    case 'f':
        files();
        break;
    case 'd':
        duplicates();
        break;
    case 'p':
        pairs();
        break;
    case 'r':
        ranges();
        break;
    case 's':
        streams();
        break;
    case 'm':
        maps();
        break;
    case 't':
        threads();
        break;
    case 'l':
        limits();
        break;
    case 'R':
        race();
        break;
    case 'h':
        handler();
        break;
    case 'c':
        children();
        break;
    case 'P':
        passes();
        break;
    case 'o':
        owners();
        break;
    case 'C':
        cancels();
        break;
    case 'B':
        wait_blocked();
        break;
    case 'U':
        unblock();
        break;
    case 'F':
        fork_one();
        break;
    case 'b':
        probes();
        break;
    case 'q':
        often(400);
        break;
    case 'Q':
        often_at_once();
        break;
    case 'L':
        libraries();
        break;
    case 'D':
        declared();
        break;
    case 'T':
        CHECK(pthread_create(&t, NULL, many, NULL) == 0 && pthread_join(t, NULL) == 0);
        break;
    case '-':
        break;
    default:
        return false;
    }
    return !fails;
}

int main(void)
{
    char what;
    while (read(0, &what, 1) == 1) {
        char answer = act(what) ? what : '!';
        if (write(1, &answer, 1) != 1)
            return 1;
    }
    return 0;
}
