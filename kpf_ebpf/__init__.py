"""kpf-ebpf: a per-application firewall, as a pipeline of frozen values.

    policy.toml -parse-> Policy -resolve-> ResolvedPolicy -compile-> MapImage -apply-> kernel maps -> verdicts
                                  ^                          |                                          |
                       Facts: what the world is like         evaluate: the classifier's twin            |
    log line <-render- LogRecord <-enrich- RawEvent <-decode- perf buffer <-----------------------------+

Packages, in order; each may import those before it and none behind it:

    policy    what the user wrote, checked; only ``policy.load`` reads files
    facts     what the world is like: names, proxy, adapters, users, cgroups, program files; gathered in one place
    names     host names kept true by DNS, for as long as the Engine lives
    resolve   the ordered rules of all steps, every name replaced by what it means here
    image     the contents of the kernel's maps
    evaluate  the kernel's classifier once more, in Python: for ``explain`` and as the tests' oracle
    kernel    load, attach, pin, apply; the only package that imports bcc
    events    from what the kernel reports to log lines; knows nothing of ``kernel`` but its layouts (``kernel.abi``)
    engine    the process that stays: life cycle, events, status
    cli       one command a file; the only place that explains errors

No input or output in policy (but load), resolve, image, evaluate and the conversions of events.
tests/unit/test_imports.py holds all this.
"""
