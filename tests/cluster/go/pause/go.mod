module tidegate.dev/tests/cluster/pause

go 1.26.0

tool tidegate.dev/tests/cluster/pause
