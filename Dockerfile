# Quickstudy as an image: the virtual environment and the application, no compiler.
#
#   docker build -t quickstudy .
#   docker run --rm --init --gpus all --ipc=host \
#       -v "$PWD/runs:/app/runs" -v "$PWD/data:/data" --user "$(id -u):$(id -g)" \
#       quickstudy fit --config configs/NAME.yaml
#
# What follows the image's name goes to `python train.py`; nothing means `fit`. Without a GPU leave out `--gpus all`.
# Runs are written to /app/runs, data sets and their caches to /data. `--user` makes the files yours, `--ipc=host` gives
# several GPUs the shared memory they talk through, `--init` lets a `docker stop` reach the training.
# `-e WANDB_API_KEY` passes a W&B login; without one W&B records offline, inside the run's folder.
# The root file system may be read-only: `--read-only --tmpfs /tmp --tmpfs /home/quickstudy:mode=1777`. Nothing else is written to.
# deploy/README.md: the same image on Kubernetes, under Compose and Slurm. `make image-test` builds and tries it.

FROM python:3.11-slim-bookworm AS builder
# learn2learn is built from source; no other package needs gcc or the headers.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*
COPY requirements.txt /tmp/requirements.txt
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --upgrade pip \
    && /opt/venv/bin/pip install --no-cache-dir -r /tmp/requirements.txt \
    # Static libraries serve a linker and the packages' own tests nobody here: 0.25 GB that no run opens.
    && find /opt/venv/lib -name '*.a' -delete \
    && find /opt/venv/lib/python3.11/site-packages -type d -name tests -prune -exec rm -rf {} +

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="quickstudy" org.opencontainers.image.licenses="MIT"
COPY --from=builder /opt/venv /opt/venv
# The default user is 1000; the three writable folders are open to any other id given with `--user`. There is no VOLUME line:
# an unnamed volume would hide results that nobody mounted a folder for, where `docker cp` finds them in the container.
RUN useradd --uid 1000 --home-dir /home/quickstudy --create-home quickstudy \
    && mkdir -p /app/runs /data \
    && chmod 1777 /app/runs /data /home/quickstudy \
    && ln -s /data /app/data
WORKDIR /app
COPY . .
# USER gives an id without a passwd entry a name: torch asks for one when it picks its compile cache.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/home/quickstudy \
    XDG_CACHE_HOME=/data/.cache \
    USER=quickstudy \
    MPLCONFIGDIR=/home/quickstudy/.config/matplotlib \
    WANDB_CACHE_DIR=/home/quickstudy/.cache/wandb \
    WANDB_CONFIG_DIR=/home/quickstudy/.config/wandb \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER quickstudy
ENTRYPOINT ["python", "train.py"]
CMD ["fit"]
