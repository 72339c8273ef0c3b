/*
 * A program whose traffic is judged: MODE ADDRESS PORT [NUMBER [NUMBER]].
 *
 *   tcp       connect, exchange a text, close; again and again, with a pause of so many ms between
 *   session   one connection, a text exchanged again and again, with such a pause
 *   udp       datagrams of one socket, each answered before the next, with such a pause
 *   connect   a new socket for each connect()
 *   send      datagrams of a connected socket, never answered
 *   sendto    datagrams of one socket to one peer, never answered; each n-th to the next of 10,000 ports from 20000
 *   distinct  connect() of one TCP socket to peers that are all distinct
 *   scatter   datagrams of one socket to peers that are all distinct
 *   pair      a datagram to the port, one to the next port; exactly one of the two is permitted at a time
 *   peers     COUNT PORTS: to so many distinct peers by one socket, all of which answer; then nothing more
 *
 * What fails is counted by its errno; a wait of more than PATIENCE seconds is EAGAIN. For "distinct" and "scatter" the
 * numbers are how many, 0 for no end, and how many a millisecond at most, 0 for no limit; for "sendto" it is the n.
 */
#define _GNU_SOURCE
#include "helper.h"

#define PATIENCE 20
#define OFTEN 64   /* attempts between two looks at standard input */
#define WINDOW 64  /* datagrams on their way at most */

static const char TEXT[] = "reliable";
static uint32_t address;
static uint16_t port;

static int send_one(int descriptor, uint32_t to, uint16_t to_port)
{
    struct sockaddr_in peer = at(to, to_port);

    return sendto(descriptor, TEXT, sizeof(TEXT), 0, (void *)&peer, sizeof(peer)) < 0 ? errno : 0;
}

static int exchange(int descriptor)
{
    char answer[sizeof(TEXT)];

    if (send(descriptor, TEXT, sizeof(TEXT), MSG_NOSIGNAL) < 0)
        return errno;
    if (recv(descriptor, answer, sizeof(answer), MSG_WAITALL) != sizeof(answer))
        return errno ?: EPIPE;
    return memcmp(answer, TEXT, sizeof(TEXT)) ? EBADMSG : 0;
}

static int connected(int descriptor)
{
    struct sockaddr_in peer = at(address, port);

    return connect(descriptor, (void *)&peer, sizeof(peer)) ? errno : 0;
}

/* Looks up, and lets so many ms go by if nothing is asked. */
static void rest(uint64_t pause)
{
    char line[256];

    if (told(line, sizeof(line), pause))
        tell("count");
}

static void tcp(uint64_t pause)
{
    int made, number;

    for (;; rest(pause)) {
        made = new_socket(SOCK_STREAM);
        patience(made, PATIENCE);
        reset_at_close(made);
        errno = 0;
        number = connected(made);
        count(number ?: exchange(made));
        close(made);
    }
}

static void session(uint64_t pause)
{
    int made = new_socket(SOCK_STREAM);

    patience(made, PATIENCE);
    if (connected(made))
        fail("session");
    for (;; rest(pause)) {
        errno = 0;
        count(exchange(made));
    }
}

static void udp(uint64_t pause)
{
    int made = new_socket(SOCK_DGRAM), number;
    char answer[64];

    patience(made, PATIENCE);
    for (;; rest(pause)) {
        number = send_one(made, address, port);
        if (!number && recv(made, answer, sizeof(answer), 0) < 0)
            number = errno;
        count(number);
    }
}

static void connect_each(void)
{
    uint64_t i;
    int made;

    for (i = 0;; i++) {
        made = new_socket(SOCK_STREAM);
        count(connected(made));
        close(made);
        if (i % OFTEN == 0)
            look_up();
    }
}

static void send_all(void)
{
    int made = new_socket(SOCK_DGRAM);
    uint64_t i;

    if (connected(made))
        fail("connect");
    for (i = 0;; i++) {
        count(send(made, TEXT, sizeof(TEXT), 0) < 0 ? errno : 0);
        if (i % OFTEN == 0)
            look_up();
    }
}

static void sendto_all(uint64_t nth)
{
    int made = new_socket(SOCK_DGRAM);
    uint64_t i;

    for (i = 0;; i++) {
        if (nth && i % nth == 0) {
            count(send_one(made, address, 20000 + i / nth % 10000));
            tally.extra++;
        } else {
            count(send_one(made, address, port));
        }
        if (i % OFTEN == 0)
            look_up();
    }
}

/* The peer with this number: ports from 1024 on, then the next address. */
static struct sockaddr_in peer_of(uint64_t number)
{
    return at(address + number / 64000, 1024 + number % 64000);
}

static void distinct(int kind, uint64_t many, uint64_t pace)
{
    int made = new_socket(kind);
    struct sockaddr_in peer;
    uint64_t i;

    for (i = 0; !many || i < many; i++) {
        peer = peer_of(i);
        if (kind == SOCK_STREAM)
            count(connect(made, (void *)&peer, sizeof(peer)) ? errno : 0);
        else
            count(send_one(made, ntohl(peer.sin_addr.s_addr), ntohs(peer.sin_port)));
        if (pace && i % pace == 0)
            rest(1);
        else if (i % OFTEN == 0)
            look_up();
    }
}

/*
 * Each verdict tells which of two policies gave it: the first permits the port, the second the next one. `changes`
 * counts how often a verdict tells of another policy than the one before, `mixed` pairs that two policies judged.
 */
static void pair(void)
{
    int made = new_socket(SOCK_DGRAM), number, which, first = 0, last = -1, i;

    for (;; look_up())
        for (i = 0; i < 2; i++) {
            number = send_one(made, address, port + i);
            count(number);
            if (number && number != EPERM)
                continue;
            which = (number == 0) != i;
            tally.changes += last >= 0 && which != last;
            tally.mixed += i && which != first;
            first = last = which;
        }
}

/* `passed` counts answers, `extra` answers by somebody who was not asked. */
static void peers(uint64_t many, uint16_t ports)
{
    int made = new_socket(SOCK_DGRAM), number, room = 1 << 20;
    uint64_t sent = 0, done = 0;
    struct sockaddr_in from;
    socklen_t size;
    char answer[64];

    patience(made, PATIENCE);
    setsockopt(made, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    while (done < many) {
        for (; sent < many && sent - done < WINDOW; sent++) {
            number = send_one(made, address + sent / ports, port + sent % ports);
            if (number) {
                count(number);
                done++;
            }
        }
        if (done == sent)
            continue;
        size = sizeof(from);
        number = recvfrom(made, answer, sizeof(answer), 0, (void *)&from, &size) < 0 ? errno : 0;
        if (number == EAGAIN) { /* what is on its way is lost */
            for (; done < sent; done++)
                count(EAGAIN);
            continue;
        }
        count(number);
        if (!number && (ntohl(from.sin_addr.s_addr) < address || ntohl(from.sin_addr.s_addr) - address > sent / ports))
            tally.extra++;
        done++;
        if (done % OFTEN == 0)
            look_up();
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 3 ? argv[1] : "";
    uint64_t one = argc > 4 ? strtoull(argv[4], NULL, 10) : 0, two = argc > 5 ? strtoull(argv[5], NULL, 10) : 0;
    char line[256];

    if (argc < 4)
        return 2;
    address = address_of(argv[2]);
    port = strtoul(argv[3], NULL, 10);
    many_descriptors();
    tell("ready");
    if (!strcmp(mode, "tcp"))
        tcp(one);
    else if (!strcmp(mode, "session"))
        session(one);
    else if (!strcmp(mode, "udp"))
        udp(one);
    else if (!strcmp(mode, "connect"))
        connect_each();
    else if (!strcmp(mode, "send"))
        send_all();
    else if (!strcmp(mode, "sendto"))
        sendto_all(one);
    else if (!strcmp(mode, "distinct"))
        distinct(SOCK_STREAM, one, two);
    else if (!strcmp(mode, "scatter"))
        distinct(SOCK_DGRAM, one, two);
    else if (!strcmp(mode, "pair"))
        pair();
    else if (!strcmp(mode, "peers"))
        peers(one, two);
    else
        return 2;
    tell("done");
    for (;;)
        if (told(line, sizeof(line), -1))
            tell("count");
}
