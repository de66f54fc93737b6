#!/usr/bin/env bash
# A run of kd on a slice of TPU VMs, from an empty project to the last metric.
#
#   export PROJECT=... ZONE=us-west4-a NAME=kd TYPE=v5litepod-16 SHARE=10.0.0.2:/runs
#   launch/tpu-vm/kd-tpu.sh create      asks for the slice and waits; spot by default (SPOT= for on demand)
#   launch/tpu-vm/kd-tpu.sh install     kd and its data on every host
#   launch/tpu-vm/kd-tpu.sh train --config=configs/digits.py --workdir=/runs/digits --config.data.batch_size=96
#   launch/tpu-vm/kd-tpu.sh watch       the log of process 0
#   launch/tpu-vm/kd-tpu.sh stop        finishes the step, saves, ends; `train` again continues
#   launch/tpu-vm/kd-tpu.sh delete      the slice; the runs stay on the share
#
# SHARE is an NFS share that all hosts mount at /runs, for example a Filestore instance: all processes of a run
# write one work directory. SLICES=2 asks for two slices, NAME-0 and NAME-1, that come together or not at all.
# PATIENCE=6h gives the request up after so long.
set -euo pipefail

: "${PROJECT:?export PROJECT, the Google Cloud project}"
: "${ZONE:?export ZONE, for example us-west4-a}"
NAME=${NAME:-kd}
TYPE=${TYPE:-v5litepod-16}
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
SPOT=${SPOT---spot}
SLICES=${SLICES:-1}
PATIENCE=${PATIENCE:-}
WHERE=(--project="$PROJECT" --zone="$ZONE")

slices() {
  if [ "$SLICES" -eq 1 ]; then
    echo "$NAME"
  else
    seq -f "$NAME-%g" 0 "$((SLICES - 1))"
  fi
}

everywhere() { # COMMAND on every host of every slice
  local slice
  for slice in $(slices); do
    gcloud compute tpus tpu-vm ssh "$slice" "${WHERE[@]}" --worker=all --command="$1"
  done
}

first() { # COMMAND on the host of process 0
  gcloud compute tpus tpu-vm ssh "$(slices | head -n 1)" "${WHERE[@]}" --worker=0 --command="$1"
}

create() {
  gcloud services enable tpu.googleapis.com --project="$PROJECT"
  local nodes=(--node-id="$NAME")
  [ "$SLICES" -eq 1 ] || nodes=(--node-count="$SLICES" --node-prefix="$NAME")
  # SPOT and PATIENCE are one option or none
  gcloud compute tpus queued-resources create "$NAME" "${nodes[@]}" "${WHERE[@]}" \
    --accelerator-type="$TYPE" --runtime-version="$RUNTIME" \
    ${SPOT:+"$SPOT"} ${PATIENCE:+"--valid-until-duration=$PATIENCE"}
  echo "waiting in the queue; Ctrl-C stops waiting, not the request"
  until gcloud compute tpus queued-resources describe "$NAME" "${WHERE[@]}" --format='value(state.state)' |
    grep -qx ACTIVE; do
    sleep 30
  done
}

install() {
  : "${SHARE:?export SHARE, the NFS share HOST:/PATH that holds the runs}"
  local archive slice
  archive=$(mktemp --suffix=.tar.gz)
  git archive --format=tar.gz --output="$archive" HEAD
  for slice in $(slices); do
    gcloud compute tpus tpu-vm scp "$archive" "$slice:kd.tar.gz" "${WHERE[@]}" --worker=all
  done
  rm "$archive"
  everywhere "set -e
    sudo apt-get -qq update && sudo apt-get -qq install -y nfs-common
    sudo mkdir -p /runs && (mountpoint -q /runs || sudo mount -t nfs '$SHARE' /runs) && sudo chmod 777 /runs
    mkdir -p kd && tar -xzf kd.tar.gz -C kd
    python3 -m pip install --quiet --user uv && ~/.local/bin/uv venv --quiet --clear --python 3.12 venv
    ~/.local/bin/uv pip install --quiet --python venv/bin/python -c kd/constraints-py312.txt ./kd 'jax[tpu]'"
}

train() { # the processes find each other through the slice's metadata
  local options
  options=$(printf ' %q' "$@")
  everywhere "cd kd; export TFDS_DATA_DIR=/runs/data
    nohup setsid ~/venv/bin/kd train$options >~/kd.log 2>&1 </dev/null &
    echo \$! >~/kd.pid"
}

watch() {
  first 'tail -n 50 -f ~/kd.log'
}

stop() { # one process is enough: all of them stop after the same step
  # shellcheck disable=SC2016  # the host expands it
  first 'kill -TERM "$(cat ~/kd.pid)"; tail --pid="$(cat ~/kd.pid)" -n 5 -f ~/kd.log'
}

delete() {
  gcloud compute tpus queued-resources delete "$NAME" "${WHERE[@]}" --force --quiet
}

case ${1:-} in
  create | install | train | watch | stop | delete) "$@" ;;
  *)
    sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
