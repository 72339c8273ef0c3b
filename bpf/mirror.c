/*
 * Mirrors: what an internal rule permitted at the sender of a loopback flow, it permits at its receiver, too.
 */

/* A loopback flow's two halves meet in this key. */
static __always_inline void kpf_mirror_key_of(struct kpf_mirror_key *key, const struct kpf_flow *flow)
{
    int out = flow->direction == KPF_OUT;

    __builtin_memset(key, 0, sizeof(*key));
    key->netns_cookie = flow->netns_cookie;
    key->protocol = flow->protocol;
    __builtin_memcpy(key->sender, out ? flow->local : flow->remote, 16);
    __builtin_memcpy(key->receiver, out ? flow->remote : flow->local, 16);
    key->sender_port = out ? flow->local_port : flow->remote_port;
    key->receiver_port = out ? flow->remote_port : flow->local_port;
}

/* The sender's half of a loopback flow that comes in, if an internal rule permitted it; else zero, which permits nothing. */
static __always_inline void kpf_find_mirror(const struct kpf_flow *flow, struct kpf_mirror_key *key,
                                            struct kpf_mirror *mirror)
{
    struct kpf_mirror *found;

    if (flow->ifindex == 1 && flow->direction == KPF_IN) {
        kpf_mirror_key_of(key, flow);
        found = mirrors.lookup(key);
        if (found)
            *mirror = *found;
    }
}

/*
 * The receiver's half of a loopback flow that an internal rule permitted at its sender: to the Engine (popup-log)
 * and to the GUI (engine-to-gui, or anything the Engine itself was permitted). Mirrored one way only.
 */
static __always_inline int kpf_is_mirrored(const struct kpf_image *image, u32 component, const struct kpf_mirror *mirror)
{
    if (mirror->rule.action != KPF_PERMIT || mirror->rule.counter > 63 ||
        !(image->internal >> (mirror->rule.counter & 63) & 1))
        return 0;
    if (component == KPF_COMPONENT_ENGINE)
        return mirror->rule.flags & KPF_RULE_MIRROR_ENGINE;
    return component == KPF_COMPONENT_GUI &&
           (mirror->rule.flags & KPF_RULE_MIRROR_GUI || mirror->component == KPF_COMPONENT_ENGINE);
}

/* Puts the rule of the flow's mirror, if one counts, in the place of what else was found; stop-all outranks it. */
static __always_inline void kpf_follow_mirror(const struct kpf_flow *flow, u64 active_word, u32 component,
                                              struct kpf_mirror_key *key, struct kpf_rule *rule)
{
    u32 slot = KPF_ACTIVE_SLOT(active_word), zero = 0;
    void *images_of = images.lookup((int *)&slot);
    struct kpf_mirror mirror = {};
    struct kpf_image *image;

    if (KPF_ACTIVE_STOP_ALL(active_word) && rule->step == KPF_STEP_STOP_ALL)
        return;
    kpf_find_mirror(flow, key, &mirror);
    image = images_of ? bpf_map_lookup_elem(images_of, &zero) : NULL;
    if (image && kpf_is_mirrored(image, component, &mirror))
        *rule = mirror.rule;
}

/* Writes the mirror of a loopback flow that goes out, or withdraws it. */
static __always_inline void kpf_keep_mirror(const struct kpf_flow *flow, const struct kpf_rule *rule, u32 component,
                                            struct kpf_mirror_key *key)
{
    struct kpf_mirror made = {.rule = *rule, .component = component};

    if (flow->ifindex != 1 || flow->direction != KPF_OUT)
        return;
    kpf_mirror_key_of(key, flow);
    if (rule->step == KPF_STEP_INTERNAL && rule->action == KPF_PERMIT &&
        (component == KPF_COMPONENT_ENGINE || rule->flags & (KPF_RULE_MIRROR_ENGINE | KPF_RULE_MIRROR_GUI)))
        mirrors.update(key, &made);
    else
        mirrors.delete(key);
}
