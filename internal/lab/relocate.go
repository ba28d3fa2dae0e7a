package lab

import "context"

func (l *Lab) relocateInstallation(context.Context) error { return nil }

func (n *Node) copyOnline(ctx context.Context, from *Node) error { return nil }
