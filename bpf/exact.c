/*
 * Scripts exactly, by their own file. One of these is attached where it loads: fentry, else the BPF LSM; where
 * neither does, scripts are known by their path (kpf_identify_script). The pointer is copied as a number, since the
 * verifier has ideas of its own about typed ones.
 */
static __always_inline int kpf_check_typed(void *binary)
{
    u64 number = 0;

    bpf_probe_read_kernel(&number, sizeof(number), &binary);
    kpf_check_file(number);
    return 0;
}

#ifdef KPF_PART_SOCKETS
KFUNC_PROBE(security_bprm_check, void *binary)
{
    return kpf_check_typed(binary);
}

LSM_PROBE(bprm_check_security, void *binary)
{
    return kpf_check_typed(binary);
}
#endif
