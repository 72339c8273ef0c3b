/*
 * What was judged before: the verdict in a socket's own storage, and the flows of datagrams whose sockets are connected to
 * nobody; and what a packet must have in common with the one that was judged, to be judged alike. Most packets are looked
 * at by nothing but this file, so it reads them where they lie and calls little.
 */
#define KPF_STATE_ESTABLISHED 1
#define KPF_STATE_SYN_SENT 2
#define KPF_STATE_LISTEN 10
#define KPF_SEEN_ANEW (KPF_HZ / 4) /* jiffies; a life is written down anew so often, and memory of it trusted so long */

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

/* What a cache is of, and says. */
static __always_inline u32 kpf_cached_kind(u8 protocol, u64 ipv4, u8 action, u32 passes)
{
    return kpf_cache_kind(protocol, ipv4) | (u32)action << 16 | passes << 8;
}

/* Which file a sender executes, in a word. */
static __always_inline u64 kpf_owner_mark(const struct kpf_file *file)
{
    return file->inode ^ (u64)file->device << 40 ^ (u64)file->generation << 20;
}

/* 0: the two addresses are the same as far as caches have them elsewhere; looked at only if they are IPv6. */
static __always_inline u64 kpf_other_upper(const volatile struct kpf_upper *cached, const u64 upper[3])
{
    return (cached->words[0] ^ upper[0]) | (cached->words[1] ^ upper[1]) | (cached->words[2] ^ upper[2]);
}

/*
 * Whether the cached verdict is this packet's; then `rule` gets what counts of it. A lock would cost more than all the
 * rest: writers, who have one, count up before and after, and what was read while they wrote is nobody's verdict. (Reads
 * are not reordered on x86-64, nor by the compiler: volatile.)
 */
static __always_inline int kpf_read_cache(const volatile struct kpf_cache *cached, const volatile struct kpf_upper *upper,
                                          const struct kpf_header *header, u64 active_word, u64 ifindex, u64 passes,
                                          struct kpf_rule *rule)
{
    u64 before = cached->writes, other = cached->active ^ active_word, kind = cached->kind;

    other |= (*(volatile u64 *)cached->last ^ header->last) | (cached->ports ^ header->ports);
    other |= ((kind ^ header->kind) & KPF_KIND_ALL) | (~kind & passes << 8) | (cached->ifindex ^ ifindex);
    if (!(header->kind & KPF_KIND_IPV4))
        other |= kpf_other_upper(upper, header->upper);
    rule->counter = cached->counter;
    rule->action = kind >> 16;
    return !(other | (before ^ cached->writes) | (before & 1));
}

/* What a cache holds, within its lock. */
static __always_inline void kpf_fill_cache(volatile struct kpf_cache *cached, volatile struct kpf_upper *upper,
                                           const struct kpf_flow *flow, u64 active_word, const struct kpf_rule *rule,
                                           u32 passes)
{
    u64 ipv4 = kpf_is_ipv4(flow->local) & kpf_is_ipv4(flow->remote);

    cached->active = active_word;
    cached->last[0] = flow->local[3];
    cached->last[1] = flow->remote[3];
    cached->ports = bpf_htons(flow->local_port) | (u32)bpf_htons(flow->remote_port) << 16;
    cached->ifindex = flow->ifindex;
    cached->kind = kpf_cached_kind(flow->protocol, ipv4, rule->action, passes);
    cached->counter = rule->counter;
    upper->words[0] = kpf_both(flow->local[0], flow->local[1]);
    upper->words[1] = kpf_both(flow->remote[0], flow->remote[1]);
    upper->words[2] = kpf_both(flow->local[2], flow->remote[2]);
}

static __always_inline void kpf_write_cache(struct kpf_identity *who, const struct kpf_flow *flow, u64 active_word,
                                            const struct kpf_rule *rule, u32 passes)
{
    bpf_spin_lock(&who->cache.lock);
    *(volatile u32 *)&who->cache.writes |= 1;
    kpf_fill_cache(&who->cache, &who->upper, flow, active_word, rule, passes);
    *(volatile u32 *)&who->cache.writes += 1;
    bpf_spin_unlock(&who->cache.lock);
}

/* A socket that connects or listens anew is judged anew. No lock: one word makes it stale. */
static __always_inline void kpf_drop_cache(struct kpf_identity *who)
{
    *(volatile u64 *)&who->cache.active = 0;
    *(volatile u8 *)&who->unsent = 0;
}

/* Copies a header into a flow: ports in host order. */
static __always_inline void kpf_flow_of(struct kpf_flow *flow, const struct kpf_header *header)
{
    ((u64 *)flow->local)[0] = header->upper[0];
    ((u64 *)flow->remote)[0] = header->upper[1];
    flow->local[2] = header->upper[2];
    flow->remote[2] = header->upper[2] >> 32;
    flow->local[3] = header->last;
    flow->remote[3] = header->last >> 32;
    flow->local_port = bpf_ntohs((u16)header->ports);
    flow->remote_port = bpf_ntohs(header->ports >> 16);
    flow->protocol = header->kind;
}

/* Whether a memo is of a flow of this socket to this point, as far as its first cache line says. */
static __always_inline int kpf_is_memo_of(const volatile struct kpf_flow_memo *memo, u64 cookie, const u64 remote[2],
                                          u16 port)
{
    return !((memo->cookie ^ cookie) | (memo->cache.last[1] ^ remote[1] >> 32) | (memo->cache.ports >> 16 ^ port));
}

/* The first of the two places that a flow between a socket and a remote point may have. The port is in network order. */
static __always_inline u32 kpf_flow_place(u64 cookie, const u64 remote[2], u16 port)
{
    return kpf_mixed(remote[0] ^ remote[1], cookie << 16 ^ port) & (KPF_FLOW_MEMOS - 2);
}

/*
 * What is in memory of a flow; else the one of its two places that was written earlier. It is a step shorter than to the
 * flow's state: no call, and no chain. (With one place each, of a thousand flows that go on side by side a hundred would
 * take it from each other all the time.)
 */
static __always_inline struct kpf_flow_memo *kpf_flow_memo_of(u64 cookie, const u64 remote[2], u16 port)
{
    u32 at = kpf_flow_place(cookie, remote, port);
    struct kpf_flow_memo *one = flow_memos.lookup(&at), *other;

    if (!one || kpf_is_memo_of(one, cookie, remote, port))
        return one;
    at |= 1;
    other = flow_memos.lookup(&at);
    if (other && !kpf_is_memo_of(other, cookie, remote, port) && (int)(one->seen - other->seen) < 0)
        return one;
    return other;
}

/* Nothing of a flow is known from memory any more: in both places, for two processors may have taken one each. */
static __always_inline void kpf_forget_flow(u64 cookie, const u64 remote[2], u16 port)
{
    u32 at = kpf_flow_place(cookie, remote, port), i;
    struct kpf_flow_memo *memo;

#pragma unroll
    for (i = 0; i < 2; i++) {
        memo = flow_memos.lookup(&at);
        if (memo && kpf_is_memo_of(memo, cookie, remote, port))
            *(volatile u64 *)&memo->cache.active = 0;
        at |= 1;
    }
}

/* Whether a flow memo is of this socket, and young enough to count. */
static __always_inline u64 kpf_other_memo(const volatile struct kpf_flow_memo *memo, u64 cookie)
{
    return (memo->cookie ^ cookie) | ((u32)bpf_jiffies64() - memo->seen >= KPF_SEEN_ANEW);
}

static __always_inline void kpf_keep_flow(struct kpf_flow_memo *locked, const struct kpf_flow *flow, u64 active_word,
                                          u64 cookie, const struct kpf_flow_state *state)
{
    volatile struct kpf_flow_memo *memo = locked;
    int came_in = state->initiator == KPF_INITIATOR_IN;
    u32 passes = came_in ? KPF_PASSES_IN | KPF_PASSES_ANYBODY : KPF_PASSES_OUT, seen = bpf_jiffies64();
    u64 owner = kpf_owner_mark(&state->application);

    if (state->answered)
        passes |= KPF_PASSES_IN | KPF_PASSES_OUT;
    bpf_spin_lock(&locked->cache.lock);
    memo->cache.writes |= 1;
    kpf_fill_cache(&memo->cache, &memo->upper, flow, active_word, &state->rule, passes);
    if ((memo->cookie ^ cookie) | (memo->owner ^ owner) | (memo->pid ^ state->pid))
        memo->became = KPF_NEVER;
    memo->cookie = cookie;
    memo->owner = owner;
    memo->pid = state->pid;
    memo->seen = seen;
    memo->cache.writes += 1;
    bpf_spin_unlock(&locked->cache.lock);
}

/*
 * What is remembered of the flow of a datagram, as kpf_recall_datagram() does it where the socket is connected to nobody:
 * in memory of the last packets, else in the flow's state.
 */
static __always_inline int kpf_is_remembered(struct __sk_buff *skb, struct kpf_identity *who,
                                             const struct kpf_header *header, u64 active_word, int out,
                                             struct kpf_rule *rule)
{
    struct kpf_flow_memo *memo;
    struct kpf_flow_key key = {};
    struct kpf_flow flow = {};
    struct kpf_flow_state *state;
    u64 now, remote[2];

    kpf_remote_of(remote, header);
    if (!who->cookie)
        who->cookie = kpf_socket_cookie(skb);
    key.cookie = who->cookie;
    flow.ifindex = skb->ifindex;
    memo = kpf_flow_memo_of(key.cookie, remote, header->ports >> 16);
    if (!memo)
        return 0;
    if (!kpf_other_memo(memo, key.cookie) &&
        kpf_read_cache(&memo->cache, &memo->upper, header, active_word, flow.ifindex,
                       out ? KPF_PASSES_OUT : KPF_PASSES_IN, rule))
        return 1;
    kpf_flow_of(&flow, header);
    kpf_flow_key_of(&key, &flow, key.cookie, 0);
    state = flows.lookup(&key);
    if (!state || state->active != active_word || state->ifindex != flow.ifindex || state->rule.action != KPF_PERMIT)
        return 0;
    now = bpf_jiffies64();
    if (!kpf_is_live(state, now, 0))
        return 0;
    if (now - state->seen >= KPF_SEEN_ANEW / 2)
        state->seen = now; /* not each time: both ends' processors would take its memory from each other */
    if (!state->answered && out != (state->initiator == KPF_INITIATOR_OUT))
        state->answered = 1;
    rule->counter = state->rule.counter;
    rule->action = KPF_PERMIT;
    kpf_keep_flow(memo, &flow, active_word, key.cookie, state);
    return 1;
}

static __always_inline void kpf_flow_owner(struct kpf_flow *flow, const struct kpf_identity *who)
{
    flow->application = who->application;
    flow->component = who->component;
    flow->uid = who->uid;
    flow->cgroup = who->cgroup;
    flow->netns_cookie = who->netns_cookie;
}

enum kpf_knowledge { KPF_UNHEARD, KPF_KNOWN_FLOW, KPF_SETTLED_FLOW };

/*
 * Whether the packet opens the connection that connect() has settled: a new flow, whatever adapter and local point are. On
 * the loopback device it goes the long way, which keeps mirrors. No lock: until `unsent` is 0 nobody writes anything else.
 */
static __always_inline int kpf_opens_settled(struct kpf_identity *who, const struct kpf_header *header, u64 active_word,
                                             u32 ifindex, struct kpf_rule *rule)
{
    volatile struct kpf_cache *cached = &who->cache;
    volatile struct kpf_upper *upper = &who->upper;
    u64 other = cached->active ^ active_word, kind = cached->kind;

    other |= ((kind ^ header->kind) & KPF_KIND_ALL) | (cached->last[1] ^ header->last >> 32);
    other |= (upper->words[1] ^ header->upper[1]) | (upper->words[2] ^ header->upper[2]) >> 32;
    other |= (cached->ports ^ header->ports) >> 16; /* the remote one */
    if (other || ifindex == 1)
        return KPF_UNHEARD;
    rule->counter = cached->counter;
    rule->action = kind >> 16;
    *(volatile u64 *)cached->last = header->last;
    cached->ports = header->ports;
    cached->ifindex = ifindex;
    upper->words[0] = header->upper[0];
    upper->words[2] = header->upper[2];
    *(volatile u8 *)&who->unsent = 0;
    return KPF_SETTLED_FLOW;
}

/*
 * How a packet's verdict is known: in its socket's cache, or (of a datagram whose socket is connected to nobody) with its
 * flow. Then `rule` is what it was judged by. The socket is taken as it is in the packet: what is no full socket has no
 * storage. A listener's segments are of many flows.
 */
static __always_inline int kpf_is_known(struct __sk_buff *skb, u64 active_word, int out, struct kpf_rule *rule)
{
    struct bpf_sock *sk = skb->sk;
    struct kpf_identity *who;
    struct kpf_header header;
    u32 state;

    if (!sk)
        return 0;
    state = sk->state;
    if (state == KPF_STATE_LISTEN || kpf_peek(skb, out, &header))
        return 0;
    who = identity.sk_storage_get(sk, 0, 0);
    if (!who && (u8)header.kind == KPF_UDP) /* older than the hooks, or the kernel's: its flows have memos, too */
        who = identity.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!who)
        return 0;
    if ((u8)header.kind == KPF_UDP && state != KPF_STATE_ESTABLISHED)
        return kpf_is_remembered(skb, who, &header, active_word, out, rule);
    if (out && state == KPF_STATE_SYN_SENT && who->unsent)
        return kpf_opens_settled(who, &header, active_word, skb->ifindex, rule);
    return kpf_read_cache(&who->cache, &who->upper, &header, active_word, skb->ifindex,
                          out ? KPF_PASSES_OUT : KPF_PASSES_IN, rule);
}

/*
 * The same for what most packets are, and no more: IPv4, of a connected socket, under a policy that is not on trial and
 * does not open. All of it is in one piece: a packet finds little of this in the processor's caches, and pays for each line.
 */
static __always_inline int kpf_is_plainly_known(struct __sk_buff *skb, int out, struct kpf_rule *rule)
{
    const volatile struct kpf_active_word *enforced = (void *)kpf_opaque(KPF_ACTIVE_VALUE);
    const u8 *at = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    u64 active_word = enforced->word;
    struct bpf_sock *sk = skb->sk;
    struct kpf_header header;
    struct kpf_identity *who;
    u32 state;

    if (active_word & (KPF_ACTIVE_ON_TRIAL | KPF_ACTIVE_MAY_OPEN) || !(active_word & KPF_ACTIVE_SOME) || !sk)
        return 0;
    state = sk->state;
    if (at + 24 > end || at[0] != 0x45 || *(u16 *)(at + 6) & bpf_htons(0x3fff))
        return 0;
    if (state == KPF_STATE_LISTEN || (at[9] == KPF_UDP && state != KPF_STATE_ESTABLISHED))
        return 0;
    who = identity.sk_storage_get(sk, 0, 0);
    if (!who)
        return 0;
    kpf_peek_ipv4(at, out, &header);
    return kpf_read_cache(&who->cache, &who->upper, &header, active_word, skb->ifindex,
                          out ? KPF_PASSES_OUT : KPF_PASSES_IN, rule);
}
