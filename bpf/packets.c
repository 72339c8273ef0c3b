/*
 * The packet hooks, cgroup_skb egress and ingress: authoritative for every packet of every socket in the cgroup.
 * They return 1 (pass) or 0 (drop; the sender of a datagram gets EPERM). What no cache decides goes on in one program for
 * both directions: it is most of what the verifier has to walk.
 */
#define KPF_SOCK_RAW 3
#define KPF_PACKET_BROADCAST 1
#define KPF_PACKET_MULTICAST 2

/* How a packet is judged, and what was remembered of its flow. */
enum kpf_way { KPF_WAY_CONNECTED, KPF_WAY_LISTENER, KPF_WAY_DATAGRAM };
struct kpf_memory {
    struct kpf_rule rule;    /* what it was judged by before */
    u8 way;
    u8 judged;               /* it was judged before, if under another active word */
    u8 stateful;             /* a datagram whose answers are state */
    u8 answered;
    u8 started;              /* a flow entry is there */
    u8 counted;              /* the flow was counted where it began */
    u16 echo_id;             /* or, at a listener, what tells one connection's SYN from another's */
};

/* All there is to say of a packet before its rule. In one piece, so that the verifier can be made to forget it at once. */
struct kpf_judged {
    struct kpf_event event;
    struct kpf_memory memory;
};

/* What is worked in, one after the other: the stack has no room for both. */
struct kpf_remembered {
    struct kpf_flow_key key;
    struct kpf_flow_state state;
};
union kpf_work {
    struct kpf_remembered flow;
    struct kpf_case match;
    struct kpf_mirror_key mirror;
    u64 header[KPF_HEADER_WORDS];
};

/* An ICMP error about this socket's own echo request belongs to that flow: the flow's key, or 0. */
static __always_inline int kpf_read_quoted(struct __sk_buff *skb, const struct kpf_flow *flow,
                                           const struct kpf_packet *packet, struct kpf_flow_key *key)
{
    u8 bytes[40];
    u32 at = packet->transport + 8, transport;
    u8 echo[8];

    if (!packet->transport)
        return 0;
    if (flow->protocol == KPF_ICMP) {
        if (kpf_load(skb, at, bytes, 20) || bytes[9] != KPF_ICMP)
            return 0;
        key->remote[0] = 0;
        key->remote[1] = 0;
        key->remote[2] = bpf_htonl(0xffff);
        __builtin_memcpy(&key->remote[3], bytes + 16, 4);
        transport = at + (bytes[0] & 15) * 4;
    } else {
        if (kpf_load(skb, at, bytes, 40) || bytes[6] != KPF_ICMPV6)
            return 0;
        __builtin_memcpy(key->remote, bytes + 24, 16);
        transport = at + 40;
    }
    if (kpf_load(skb, transport, echo, 8) || !kpf_is_echo_request(flow, echo[0]))
        return 0;
    key->id = echo[4] << 8 | echo[5];
    return 1;
}

/* Whether the packet can belong to a remembered flow; its key. Of ICMP, echo and errors about an echo can. */
static __always_inline int kpf_datagram_key(struct __sk_buff *skb, const struct kpf_flow *flow,
                                            const struct kpf_packet *packet, struct kpf_flow_key *key, int out)
{
    u64 cookie = kpf_socket_cookie(skb);

    if (!kpf_is_icmp(flow->protocol)) {
        kpf_flow_key_of(key, flow, cookie, 0);
        return 1;
    }
    kpf_flow_key_of(key, flow, cookie, packet->icmp_id);
    if (kpf_is_echo(flow, packet->icmp_type))
        return 1;
    return !out && kpf_is_icmp_error(flow, packet->icmp_type) && kpf_read_quoted(skb, flow, packet, key);
}

/* Makes the flow what it was when it began: its direction, its owner, an echo's request. */
static __always_inline void kpf_restore(struct kpf_event *event, const struct kpf_flow_state *state)
{
    struct kpf_flow *flow = &event->flow;

    flow->direction = state->initiator == KPF_INITIATOR_OUT ? KPF_OUT : KPF_IN;
    flow->application = state->application;
    flow->component = state->component;
    flow->uid = state->uid;
    event->pid = state->pid;
    if (kpf_is_icmp(flow->protocol))
        flow->icmp = flow->protocol == KPF_ICMP ? 8 : 256 + 128;
}

static __always_inline void kpf_remember_flow(struct kpf_remembered *made, const struct kpf_event *event,
                                              const struct kpf_rule *rule, int answered)
{
    struct kpf_flow_state *state = &made->state;

    __builtin_memset(state, 0, sizeof(*state));
    state->application = event->flow.application;
    state->active = event->active;
    state->seen = bpf_jiffies64();
    state->rule = *rule;
    state->pid = event->pid;
    state->uid = event->flow.uid;
    state->ifindex = event->flow.ifindex;
    state->component = event->flow.component;
    state->initiator = event->flow.direction == KPF_OUT ? KPF_INITIATOR_OUT : KPF_INITIATOR_IN;
    state->answered = answered;
    if (flows.update(&made->key, state))
        kpf_count_default(KPF_DEFAULT_NO_MEMORY);
}

/* Also where the flow's next datagram looks first. */
static __always_inline void kpf_remember_memo(const struct kpf_remembered *made, const struct kpf_flow *flow,
                                              u64 active_word)
{
    u64 remote[2] = {kpf_both(flow->remote[0], flow->remote[1]), kpf_both(flow->remote[2], flow->remote[3])};
    struct kpf_flow_memo *memo = kpf_flow_memo_of(made->key.cookie, remote, bpf_htons(flow->remote_port));

    if (memo)
        kpf_keep_flow(memo, flow, active_word, made->key.cookie, &made->state);
}

/* Puts a verdict into the cache of the packet's socket, which is connected. */
static __always_inline void kpf_keep_verdict(struct __sk_buff *skb, const struct kpf_flow *flow, u64 active_word,
                                             const struct kpf_rule *rule)
{
    struct bpf_sock *sk = skb->sk;
    struct kpf_identity *who;

    if (sk)
        sk = bpf_sk_fullsock(sk);
    who = sk ? identity.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
    if (!who)
        kpf_count_default(KPF_DEFAULT_NO_MEMORY);
    else if (!*(volatile u8 *)&who->unsent) /* else connect() writes it, and the packet that opens the connection */
        kpf_write_cache(who, flow, active_word, rule, KPF_PASSES_IN | KPF_PASSES_OUT);
}

/*
 * What is remembered of a datagram's flow, per (socket, remote point, protocol, echo id). 1: the verdict, in
 * memory->rule. 0: to be judged, as the flow that it then is.
 */
static __always_inline int kpf_recall_datagram(struct __sk_buff *skb, struct kpf_event *event,
                                               const struct kpf_packet *packet, struct kpf_memory *memory,
                                               struct kpf_flow_key *key, int out, int connected)
{
    struct kpf_flow_state *state = NULL;
    struct kpf_flow *flow = &event->flow;
    u64 now = bpf_jiffies64(), nought = kpf_nought(&skb->len);

    __builtin_memset(key, 0, sizeof(*key));
    memory->stateful = kpf_opaque(kpf_datagram_key(skb, flow, packet, key, out) ^ nought);
    key->remote[0] = kpf_opaque(key->remote[0] ^ nought);
    key->remote[1] = kpf_opaque(key->remote[1] ^ nought);
    key->remote[2] = kpf_opaque(key->remote[2] ^ nought);
    key->remote[3] = kpf_opaque(key->remote[3] ^ nought);
    key->id = kpf_opaque(key->id ^ nought);
    memory->echo_id = key->id;
    if (memory->stateful)
        state = flows.lookup(key);
    if (!state || !kpf_is_live(state, now, connected)) {
        if (kpf_is_icmp(flow->protocol) && !kpf_is_echo_request(flow, packet->icmp_type))
            memory->stateful = 0; /* an answer to nothing begins no flow */
        return 0;
    }
    memory->rule = state->rule;
    memory->started = 1;
    memory->judged = kpf_opaque((state->active != 0) ^ nought); /* 0: begun by sendmsg */
    memory->answered = kpf_opaque((state->answered || out != (state->initiator == KPF_INITIATOR_OUT)) ^ nought);
    if (state->active == event->active && state->ifindex == flow->ifindex) {
        if (memory->rule.action == KPF_PERMIT) {
            state->seen = now;
            state->answered = memory->answered;
            if (connected)
                memory->way = KPF_WAY_CONNECTED; /* known: into the socket's cache */
        }
        return 1;
    }
    kpf_restore(event, state);
    return 0;
}

/* Remembers a verdict where its flow's next packet looks for it; returns whether the flow is a new one. */
static __always_inline int kpf_remember(struct __sk_buff *skb, const struct kpf_event *event,
                                        struct kpf_memory *memory, const struct kpf_rule *rule,
                                        struct kpf_remembered *made, int out)
{
    const struct kpf_flow *flow = &event->flow;
    struct kpf_flow_key *key = &made->key;

    if (memory->way == KPF_WAY_CONNECTED) {
        if (rule->action == KPF_PERMIT || flow->direction == KPF_OUT || flow->ifindex != 1)
            kpf_keep_verdict(skb, flow, event->active, rule);
        /* else: a loopback half that is denied may yet be mirrored, by its sender's next segment */
        return memory->judged ? memory->rule.counter != rule->counter : !memory->counted;
    }
    if (memory->counted)
        return 0;
    __builtin_memset(key, 0, sizeof(*key));
    kpf_flow_key_of(key, flow, kpf_socket_cookie(skb), memory->echo_id);
    if (!out && (skb->pkt_type == KPF_PACKET_BROADCAST || skb->pkt_type == KPF_PACKET_MULTICAST))
        memory->stateful = 0; /* answers to a broadcast or multicast are not state */
    if (memory->stateful && (rule->action == KPF_PERMIT || memory->judged)) {
        kpf_remember_flow(made, event, rule, memory->answered);
        if (flow->protocol == KPF_UDP && rule->action == KPF_PERMIT)
            kpf_remember_memo(made, flow, event->active);
        return memory->rule.counter != rule->counter;
    }
    if (memory->started)
        flows.delete(key);
    return kpf_is_new(key, rule, event->active);
}

static __always_inline int kpf_is_kernel_socket(struct __sk_buff *skb)
{
    struct bpf_sock *sk = skb->sk;
    u64 pointer = 0;
    u8 byte = 0;

    bpf_probe_read_kernel(&pointer, sizeof(pointer), &sk); /* as a number: arithmetic on sockets is refused */
    bpf_probe_read_kernel(&byte, 1, (void *)(pointer + KPF_BTF_SOCK_SK_KERN_SOCK));
    return byte & KPF_BTF_SOCK_SK_KERN_SOCK_MASK;
}

/*
 * What the kernel sends by itself, without an owner: RST and TIME_WAIT segments and ICMP errors are answers to
 * something that was judged (state); an echo reply is the answer half of a ping that came in.
 */
static __always_inline int kpf_is_kernel_answer(struct kpf_flow *flow, const struct kpf_packet *packet)
{
    if (flow->protocol == KPF_TCP)
        return packet->tcp_flags & (KPF_TCP_RST | KPF_TCP_ACK);
    if (kpf_is_icmp(flow->protocol)) {
        if (kpf_is_icmp_error(flow, packet->icmp_type))
            return 1;
        if (packet->icmp_type == (flow->protocol == KPF_ICMP ? 0 : 129)) {
            flow->direction = KPF_IN;
            flow->icmp = flow->protocol == KPF_ICMP ? 8 : 256 + 128;
        }
    }
    return 0;
}

/*
 * A segment: who initiated is known to the socket; a listener's flows all came in. Always to be judged: what is in the
 * socket's cache does not come here, but for what has options, and what opens a connection.
 */
static __always_inline void kpf_recall_segment(struct kpf_flow *flow, struct bpf_sock *sk, struct kpf_identity *who,
                                               const struct kpf_packet *packet, struct kpf_memory *memory, int out)
{
    int opens = (packet->tcp_flags & (KPF_TCP_SYN | KPF_TCP_ACK)) == KPF_TCP_SYN;
    u64 nought = kpf_nought(&flow->uid);
    u8 unsent;

    if (sk->state == KPF_STATE_LISTEN) {
        if (who && who->initiator != KPF_INITIATOR_IN) {
            who->initiator = KPF_INITIATOR_IN; /* accepted sockets inherit it */
            kpf_drop_cache(who);
        }
        flow->direction = KPF_IN;
        memory->way = KPF_WAY_LISTENER;
        memory->counted = out || !opens;
        memory->echo_id = packet->sequence; /* a repeated SYN has the same, another connection from there has not */
        return;
    }
    if (!who)
        return;
    unsent = *(volatile u8 *)&who->unsent & 1;
    memory->judged = kpf_opaque((*(volatile u64 *)&who->cache.active != 0 && !unsent) ^ nought);
    memory->rule.counter = who->cache.counter;
    if (out && unsent)
        kpf_drop_cache(who); /* all of it: a search that goes on comes here again, and finds the same */
    if (out && opens)
        who->initiator = KPF_INITIATOR_OUT; /* also where no connect() was: MSG_FASTOPEN */
    if (who->initiator)
        flow->direction = who->initiator == KPF_INITIATOR_OUT ? KPF_OUT : KPF_IN;
    flow->direction = kpf_opaque(flow->direction ^ nought);
    /* an accepted one was, at its listener; and what connect() has settled is, by what goes out */
    memory->counted = (flow->direction == KPF_IN && who->version && !who->adopted) | (unsent & ~out);
}

/* Makes the verifier forget which way the owner was found, or that none was: `nought` is 0. */
static __always_inline void kpf_blur_owner(struct kpf_event *event, u64 nought)
{
    struct kpf_flow *flow = &event->flow;

    flow->application.inode = kpf_opaque(flow->application.inode ^ nought);
    flow->application.device = kpf_opaque(flow->application.device ^ nought);
    flow->application.generation = kpf_opaque(flow->application.generation ^ nought);
    flow->application.ctime_seconds = kpf_opaque(flow->application.ctime_seconds ^ nought);
    flow->application.ctime_nanoseconds = kpf_opaque(flow->application.ctime_nanoseconds ^ nought);
    flow->cgroup = kpf_opaque(flow->cgroup ^ nought);
    flow->netns_cookie = kpf_opaque(flow->netns_cookie ^ nought);
    flow->uid = kpf_opaque(flow->uid ^ nought);
    flow->component = kpf_opaque(flow->component ^ nought);
    flow->direction = kpf_opaque(flow->direction ^ nought);
    flow->icmp = kpf_opaque(flow->icmp ^ nought);
    event->pid = kpf_opaque(event->pid ^ nought);
}

enum kpf_recalled { KPF_RECALLED_DROP, KPF_RECALLED_PASS, KPF_RECALLED_KNOWN, KPF_RECALLED_NOTHING };

/* What there is to say of a packet before its rule; KNOWN: the verdict, in memory->rule; NOTHING: it is to be judged. */
static __always_inline int kpf_recall(struct __sk_buff *skb, struct kpf_event *event, struct kpf_memory *memory,
                                      union kpf_work *work, int out)
{
    struct bpf_sock *sk = skb->sk;
    struct kpf_flow *flow = &event->flow;
    struct kpf_packet packet = {};
    struct kpf_identity *who;
    u64 nought;
    int own, known;

    if (sk)
        sk = bpf_sk_fullsock(sk);
    if (!sk) {
        kpf_count_default(KPF_DEFAULT_NO_SOCKET);
        return KPF_RECALLED_PASS;
    }
    if (kpf_read_packet(skb, flow, &packet, work->header, out)) {
        kpf_count_default(KPF_DEFAULT_NO_IP);
        return KPF_RECALLED_DROP;
    }
    who = identity.sk_storage_get(sk, 0, 0);
    if (who && who->version) {
        kpf_flow_owner(flow, who);
        event->pid = who->pid;
    } else if (kpf_is_kernel_socket(skb)) {
        flow->application.generation = 1; /* the kernel itself */
        if (out && kpf_is_kernel_answer(flow, &packet)) {
            memory->rule.action = KPF_PERMIT; /* counter 0: state */
            memory->way = KPF_WAY_DATAGRAM;
            return KPF_RECALLED_KNOWN;
        }
    }
    nought = kpf_nought(&skb->len);
    kpf_blur_owner(event, nought);
    own = kpf_opaque((sk->type != KPF_SOCK_RAW && sk->protocol == flow->protocol && flow->known & KPF_HAS_PORTS) ^ nought);
    if (own && flow->protocol == KPF_TCP) {
        memory->way = KPF_WAY_CONNECTED;
        kpf_recall_segment(flow, sk, who, &packet, memory, out);
        known = 0;
    } else {
        own = kpf_opaque((own && kpf_is_connected_to(sk, flow)) ^ nought);
        if (own && who && who->initiator == KPF_INITIATOR_OUT)
            flow->direction = KPF_OUT;
        flow->direction = kpf_opaque(flow->direction ^ nought);
        memory->way = KPF_WAY_DATAGRAM;
        known = kpf_recall_datagram(skb, event, &packet, memory, &work->flow.key, out, own);
    }
    return known ? KPF_RECALLED_KNOWN : KPF_RECALLED_NOTHING;
}

/* The long way of a packet whose direction is in its control block. */
KPF_PACKETS_PROGRAM kpf_judge_packet(struct __sk_buff *skb)
{
    struct kpf_judged this = {.event.active = kpf_active()};
    union kpf_work work;
    struct kpf_rule rule = {};
    int out = skb->cb[0] & 1, recalled, new_flow;
    u32 component;
    u64 done;

    if (!this.event.active)
        return 1; /* KPF_DEFAULT_NO_IMAGE */
    recalled = kpf_recall(skb, &this.event, &this.memory, &work, out);
    kpf_forget(&this, sizeof(this));
    out = kpf_opaque(out ^ kpf_nought(&skb->len));
    recalled = kpf_opaque(recalled ^ kpf_nought(&skb->len));
    if (recalled == KPF_RECALLED_KNOWN) {
        if (this.memory.way == KPF_WAY_CONNECTED)
            kpf_keep_verdict(skb, &this.event.flow, this.event.active, &this.memory.rule);
        kpf_count(&this.memory.rule, 1, skb->len, 0);
        return this.memory.rule.action == KPF_PERMIT;
    }
    if (recalled != KPF_RECALLED_NOTHING)
        return recalled == KPF_RECALLED_PASS;
    done = kpf_resume_search(skb, this.event.active);
    component = kpf_classify(&work.match, &this.event.flow, this.event.active, &rule, KPF_RUN_CHUNKS, &done);
    if (component == KPF_UNFINISHED) {
        kpf_leave_search(skb, this.event.active, done);
        judge_packet.call(skb, 0);
        kpf_broken_image(&rule);
        return 0;
    }
    kpf_follow_mirror(&this.event.flow, this.event.active, component, &work.mirror, &rule);
    kpf_keep_mirror(&this.event.flow, &rule, component, &work.mirror);
    new_flow = kpf_remember(skb, &this.event, &this.memory, &rule, &work.flow, out);
    kpf_count(&rule, 1, skb->len, new_flow);
    if (new_flow)
        kpf_report(skb, &this.event, &rule, out ? KPF_HOOK_EGRESS : KPF_HOOK_INGRESS);
    return rule.action == KPF_PERMIT;
}

/* Every packet: most by what its socket's cache says, the others the long way. */
static __always_inline int kpf_packet_hook(struct __sk_buff *skb, int out)
{
    struct kpf_rule plain, rule = {};
    u64 active_word;
    int known;

    if (kpf_is_plainly_known(skb, out, &plain)) {
        kpf_count(&plain, 1, skb->len, 0);
        return plain.action == KPF_PERMIT;
    }
    active_word = kpf_active();
    if (!active_word) {
        kpf_count_default(KPF_DEFAULT_NO_IMAGE);
        return 1;
    }
    known = kpf_is_known(skb, active_word, out, &rule);
    if (known) {
        kpf_count(&rule, 1, skb->len, known == KPF_SETTLED_FLOW);
        return rule.action == KPF_PERMIT;
    }
    skb->cb[0] = out;
    judge_packet.call(skb, 0);
    kpf_broken_image(&rule);
    return 0;
}

KPF_PACKETS_PROGRAM kpf_egress(struct __sk_buff *skb)
{
    return kpf_packet_hook(skb, 1);
}

KPF_PACKETS_PROGRAM kpf_ingress(struct __sk_buff *skb)
{
    return kpf_packet_hook(skb, 0);
}
