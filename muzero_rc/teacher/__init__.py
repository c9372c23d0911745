"""The teacher's search (`muzero_rc.agents.teacher`) on the real encoder."""
