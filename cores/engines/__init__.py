"""What executes a guest's instructions: software, this CPU at ring 3, or this CPU with KVM."""
