/*
 * Many connections at once: ADDRESS PORT COUNT SOURCE SOURCES. Connects COUNT times, from SOURCES addresses in turn,
 * and keeps what connects. Then obeys lines: "sample N" exchanges a text on N of them, "close" closes all. `tried`,
 * `passed` and the errors are of the last piece of work; `extra` is how many are open.
 */
#define _GNU_SOURCE
#include "helper.h"
#include <sys/epoll.h>

#define WINDOW 512
#define PATIENCE 30000

static int *open_ones;
static uint64_t opened;

/* Begins one connection; 0: it is on its way. */
static int begin(int waiting, struct sockaddr_in peer, uint32_t source)
{
    struct sockaddr_in here = at(source, 0);
    int made = new_socket(SOCK_STREAM | SOCK_NONBLOCK), on = 1;
    struct epoll_event event = {.events = EPOLLOUT, .data.fd = made};

    setsockopt(made, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    reset_at_close(made);
    if (bind(made, (void *)&here, sizeof(here)))
        fail("bind");
    if (connect(made, (void *)&peer, sizeof(peer)) && errno != EINPROGRESS) {
        count(errno);
        close(made);
        return 1;
    }
    if (epoll_ctl(waiting, EPOLL_CTL_ADD, made, &event))
        fail("epoll_ctl");
    return 0;
}

static void finish(int waiting, int made)
{
    int number = 0;
    socklen_t size = sizeof(number);

    getsockopt(made, SOL_SOCKET, SO_ERROR, &number, &size);
    epoll_ctl(waiting, EPOLL_CTL_DEL, made, NULL);
    count(number);
    if (number)
        close(made);
    else
        open_ones[opened++] = made;
}

static void connect_all(struct sockaddr_in peer, uint64_t many, uint32_t source, uint32_t sources)
{
    int waiting = epoll_create1(EPOLL_CLOEXEC), some, i;
    uint64_t begun = 0, on_the_way = 0;
    struct epoll_event events[WINDOW];

    while (begun < many || on_the_way) {
        for (; begun < many && on_the_way < WINDOW; begun++)
            on_the_way += !begin(waiting, peer, source + begun % sources);
        if (!on_the_way)
            continue;
        some = epoll_wait(waiting, events, WINDOW, PATIENCE);
        if (some <= 0)
            break; /* `tried` tells that some are missing */
        for (i = 0; i < some; i++)
            finish(waiting, events[i].data.fd);
        on_the_way -= some;
    }
    close(waiting);
}

static void exchange(int descriptor, uint32_t number)
{
    struct pollfd input = {.fd = descriptor, .events = POLLIN};
    uint32_t answer = 0;

    if (send(descriptor, &number, sizeof(number), MSG_NOSIGNAL) < 0)
        count(errno);
    else if (poll(&input, 1, PATIENCE) <= 0)
        count(ETIMEDOUT);
    else if (recv(descriptor, &answer, sizeof(answer), 0) < 0)
        count(errno);
    else
        count(answer == number ? 0 : EBADMSG);
}

static void obey(const char *line)
{
    uint64_t many = 0, i;

    memset(&tally, 0, sizeof(tally));
    if (sscanf(line, "sample %lu", &many) == 1 && opened)
        for (i = 0; i < many; i++)
            exchange(open_ones[random() % opened], i);
    if (!strncmp(line, "close", 5))
        while (opened)
            count(close(open_ones[--opened]) ? errno : 0);
    tally.extra = opened;
    tell("done");
}

int main(int argc, char **argv)
{
    uint64_t many = argc > 5 ? strtoull(argv[3], NULL, 10) : 0;
    char line[256];

    if (!many)
        return 2;
    many_descriptors();
    open_ones = calloc(many, sizeof(*open_ones));
    connect_all(at(address_of(argv[1]), strtoul(argv[2], NULL, 10)), many, address_of(argv[4]),
                strtoul(argv[5], NULL, 10));
    tally.extra = opened;
    tell("done");
    for (;;)
        if (told(line, sizeof(line), -1))
            obey(line);
}
