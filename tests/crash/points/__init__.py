"""Crash points on real back ends: the shipped functions in real processes, killed and stopped at every call.

    controller (pytest)           nursery ── fork ──> worker 0, 1: govern/decide       ─┐ store: PostgreSQL,
     │ delivers messages,                            worker 2, 3: remediate/raise_memory ┤ or DynamoDB's
     │ twice each; wakes, replaces                   clock: claims what is due           ┘
     └ judges: audit joined to the log   <── log ──  API server: one process nobody kills

A schedule is up to three faults, each "worker 2, at its 7th call, before it, SIGKILL". Many schedules run
at once over one database: each has a scope, which the ports put in front of every key, chain and due item.
"""
