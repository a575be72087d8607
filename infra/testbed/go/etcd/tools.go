//go:build tools

// Package tools names the command of etcd that the test bed builds, so that go.mod keeps it.
package tools

import _ "go.etcd.io/etcd/server/v3"
