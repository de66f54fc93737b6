#!/usr/bin/env bash
# The same run through XPK, which writes the JobSet itself: pip install xpk
#
#   export PROJECT=... ZONE=us-west4-a CLUSTER=kd IMAGE=REGION-docker.pkg.dev/PROJECT/kd/kd:latest TYPE=v5litepod-16
#   launch/gke/xpk.sh NAME --config=configs/digits.py --workdir=/runs/digits
#
# A volume must be attached to the cluster at /runs first: xpk storage attach, see docs/launch.md.
set -euo pipefail

: "${PROJECT:?}" "${ZONE:?}" "${CLUSTER:?}" "${IMAGE:?}"
name=${1:?the first argument is the name of the workload}
shift
xpk workload create --project="$PROJECT" --zone="$ZONE" --cluster="$CLUSTER" --workload="$name" \
  --tpu-type="${TYPE:-v5litepod-16}" --num-slices="${SLICES:-1}" --docker-image="$IMAGE" \
  --max-restarts=10 --command="cd /kd && exec kd train $(printf '%q ' "$@")"
