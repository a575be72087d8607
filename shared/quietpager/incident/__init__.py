"""The incident: its records, its state machine, and the policy, switch and brakes that bind it."""
