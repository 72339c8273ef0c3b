/*
 * What was judged before: the verdict cache of connected sockets, and the flows of datagrams of others; and what a packet
 * must have in common with the one that was judged, to be judged alike. Most packets are looked at by nothing but this
 * file, so it reads them where they lie and calls little.
 */
#define KPF_STATE_ESTABLISHED 1
#define KPF_STATE_LISTEN 10
/* Both ends have agreed: ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING (net/tcp_states.h). */
#define KPF_STATES_STANDING (1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11)

/*
 * Whether this datagram socket is connected to the flow's remote point. All fields are read before any is looked
 * at (volatile): else the compiler adds to the socket's pointer, which the verifier refuses.
 */
static __always_inline int kpf_is_connected_to(const volatile struct bpf_sock *sk, const struct kpf_flow *flow)
{
    u32 state = sk->state, ipv4 = sk->dst_ip4;
    u16 port = sk->dst_port;
    u32 address[4] = {sk->dst_ip6[0], sk->dst_ip6[1], sk->dst_ip6[2], sk->dst_ip6[3]};

    if (state != KPF_STATE_ESTABLISHED || bpf_ntohs(port) != flow->remote_port)
        return 0;
    if (kpf_is_ipv4(flow->remote))
        return ipv4 == flow->remote[3];
    return kpf_same_address(address, flow->remote);
}

/*
 * Whether the cached verdict is this packet's; `rule` gets what is cached in either case. A lock would cost more than all
 * the rest: writers, who have one, count up before and after, and what was read while they wrote is nobody's verdict.
 * (Reads are not reordered on x86-64, nor by the compiler: volatile.)
 */
static __always_inline int kpf_read_cache(const volatile struct kpf_cache *cached, const struct kpf_flow *flow,
                                          u64 active_word, struct kpf_rule *rule, u64 *judged)
{
    u32 before = cached->writes, after;
    u64 other;

    *judged = cached->active;
    rule->counter = cached->rule.counter;
    rule->action = cached->rule.action;
    rule->step = cached->rule.step;
    rule->flags = cached->rule.flags;
    other = *judged ^ active_word;
    other |= cached->ifindex ^ flow->ifindex;
    other |= cached->protocol ^ flow->protocol;
    other |= cached->local_port ^ flow->local_port;
    other |= cached->remote_port ^ flow->remote_port;
    other |= (cached->local[0] ^ flow->local[0]) | (cached->local[1] ^ flow->local[1]);
    other |= (cached->local[2] ^ flow->local[2]) | (cached->local[3] ^ flow->local[3]);
    other |= (cached->remote[0] ^ flow->remote[0]) | (cached->remote[1] ^ flow->remote[1]);
    other |= (cached->remote[2] ^ flow->remote[2]) | (cached->remote[3] ^ flow->remote[3]);
    after = cached->writes;
    return !(other | (before ^ after) | (before & 1));
}

static __always_inline void kpf_write_cache(struct kpf_cache *locked, const struct kpf_flow *flow, u64 active_word,
                                            const struct kpf_rule *rule)
{
    volatile struct kpf_cache *cached = locked;

    bpf_spin_lock(&locked->lock);
    cached->writes += 1;
    cached->active = active_word;
    cached->ifindex = flow->ifindex;
    cached->rule.counter = rule->counter;
    cached->rule.action = rule->action;
    cached->rule.step = rule->step;
    cached->rule.flags = rule->flags;
    cached->protocol = flow->protocol;
    cached->local_port = flow->local_port;
    cached->remote_port = flow->remote_port;
    cached->local[0] = flow->local[0];
    cached->local[1] = flow->local[1];
    cached->local[2] = flow->local[2];
    cached->local[3] = flow->local[3];
    cached->remote[0] = flow->remote[0];
    cached->remote[1] = flow->remote[1];
    cached->remote[2] = flow->remote[2];
    cached->remote[3] = flow->remote[3];
    cached->writes += 1;
    bpf_spin_unlock(&locked->lock);
}

/* A socket that connects anew, or is lent to somebody else, is judged anew. No lock: one word makes it stale. */
static __always_inline void kpf_drop_cache(struct bpf_sock *sk)
{
    struct kpf_cache *cached = cache.sk_storage_get(sk, 0, 0);

    if (cached)
        *(volatile u64 *)&cached->active = 0;
}

/* What the header of a packet says, if it is a plain one. */
struct kpf_header {
    u32 source[4];
    u32 destination[4];
    u16 source_port; /* network order, both */
    u16 destination_port;
};

/* The protocol of a plain packet and where its transport begins; 0: neither IPv4 without options nor IPv6. */
static __always_inline u32 kpf_peek_protocol(const u8 *at, const u8 *end, u8 *protocol)
{
    if (at + 20 > end)
        return 0;
    if (at[0] == 0x45) {
        *protocol = at[9];
        return 20;
    }
    if (at[0] >> 4 != 6 || at + 40 > end)
        return 0;
    *protocol = at[6];
    return 40;
}

/* Reads a datagram's header: no options, no fragment, no extensions, in one piece. Anything else takes the long way. */
static __always_inline int kpf_peek(const u8 *at, const u8 *end, u32 size, struct kpf_header *header)
{
    if (size == 20) {
        if (at + 28 > end || *(u16 *)(at + 6) & bpf_htons(0x3fff))
            return -1;
        kpf_map_ipv4(header->source, *(u32 *)(at + 12));
        kpf_map_ipv4(header->destination, *(u32 *)(at + 16));
        at += 20;
    } else {
        if (at + 48 > end)
            return -1;
        __builtin_memcpy(header->source, at + 8, 16);
        __builtin_memcpy(header->destination, at + 24, 16);
        at += 40;
    }
    header->source_port = *(u16 *)at;
    header->destination_port = *(u16 *)(at + 2);
    return 0;
}

/*
 * A segment of a connection that stands is of the flow that was judged when the connection began: the kernel finds such
 * a socket by all four of its points, and the socket sends from and to no others. So it is with what comes to a connected
 * datagram socket, but for its own address (the last word of it), which may be a broadcast now and then.
 */
static __always_inline int kpf_is_own_cached(const volatile struct kpf_cache *cached, u32 ifindex, u8 protocol,
                                             u32 local, u64 active_word, struct kpf_rule *rule)
{
    u32 before = cached->writes, after;
    u64 other = cached->active ^ active_word;

    other |= cached->ifindex ^ ifindex;
    other |= cached->protocol ^ protocol;
    other |= protocol == KPF_UDP ? cached->local[3] ^ local : 0;
    rule->counter = cached->rule.counter;
    rule->action = cached->rule.action;
    after = cached->writes;
    return !(other | (before ^ after) | (before & 1));
}

#define KPF_SEEN_ANEW (KPF_SECOND / 8)

/* What is remembered of the flow of a datagram, as kpf_recall_datagram() does it where the socket is connected to nobody. */
static __always_inline int kpf_is_remembered(struct __sk_buff *skb, const struct kpf_flow *flow, u64 active_word, int out,
                                             struct kpf_rule *rule)
{
    struct kpf_flow_key key = {};
    struct kpf_flow_state *state;
    u64 now;

    kpf_flow_key_of(&key, flow, bpf_get_socket_cookie(skb), 0);
    state = flows.lookup(&key);
    if (!state || state->active != active_word || state->ifindex != flow->ifindex || state->rule.action != KPF_PERMIT)
        return 0;
    now = bpf_ktime_get_ns();
    if (!kpf_is_live(state, now, 0))
        return 0;
    if (now - state->seen > KPF_SEEN_ANEW)
        state->seen = now; /* not each time: both ends' processors would take its memory from each other */
    if (!state->answered && out != (state->initiator == KPF_INITIATOR_OUT))
        state->answered = 1;
    rule->counter = state->rule.counter;
    rule->action = KPF_PERMIT;
    return 1;
}

/*
 * Whether this packet's verdict is known: in its socket's cache, or (of a datagram whose socket is connected to nobody)
 * with its flow. What goes past a datagram socket's connection takes the long way. Then `rule` is what it was judged by. The socket is taken as it is in the
 * packet: what is no full socket has no storage.
 */
static __always_inline int kpf_is_known(struct __sk_buff *skb, u64 active_word, int out, struct kpf_rule *rule)
{
    const u8 *at = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    struct bpf_sock *sk = skb->sk;
    struct kpf_header header;
    struct kpf_cache *cached;
    struct kpf_flow flow;
    u32 state, size, local;
    u64 judged;

    if (!sk)
        return 0;
    state = sk->state;
    size = kpf_peek_protocol(at, end, &flow.protocol);
    if (!size)
        return 0;
    if (flow.protocol == KPF_TCP ? KPF_STATES_STANDING >> (state & 31) & 1
                                 : !out && flow.protocol == KPF_UDP && state == KPF_STATE_ESTABLISHED && !skb->pkt_type) {
        local = *(u32 *)(at + (size == 20 ? 16 : 36));
        cached = cache.sk_storage_get(sk, 0, 0);
        return cached && kpf_is_own_cached(cached, skb->ifindex, flow.protocol, local, active_word, rule);
    }
    if (flow.protocol != KPF_UDP || kpf_peek(at, end, size, &header))
        return 0;
    __builtin_memcpy(flow.local, out ? header.source : header.destination, 16);
    __builtin_memcpy(flow.remote, out ? header.destination : header.source, 16);
    flow.local_port = bpf_ntohs(out ? header.source_port : header.destination_port);
    flow.remote_port = bpf_ntohs(out ? header.destination_port : header.source_port);
    flow.ifindex = skb->ifindex;
    if (state != KPF_STATE_ESTABLISHED)
        return kpf_is_remembered(skb, &flow, active_word, out, rule);
    cached = cache.sk_storage_get(sk, 0, 0); /* of what it is connected to, since connect() drops it */
    return cached && kpf_read_cache(cached, &flow, active_word, rule, &judged);
}
