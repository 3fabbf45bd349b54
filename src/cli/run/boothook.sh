#cloud-boothook
#!/bin/sh
# Starts chv's runner, once a boot, beside cloud-init.
mkdir /run/chv-run 2>/dev/null || exit 0
cat >/run/chv-run/runner.py <<'CHV_RUNNER_ENDS'
@RUNNER@
CHV_RUNNER_ENDS
for python in python3 /usr/libexec/platform-python python; do
  command -v "$python" >/dev/null 2>&1 && break
done
python=$(command -v "$python")
if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then
  systemd-run --quiet --no-block --unit=chv-run -p DefaultDependencies=no -p TasksMax=infinity \
    "$python" /run/chv-run/runner.py && exit 0
fi
setsid "$python" /run/chv-run/runner.py </dev/null >/dev/null 2>&1 &
