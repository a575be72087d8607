"""What may be done about a finding: the ground, the guards and the decisions of people."""
