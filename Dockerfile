# Bakeoff with its command. Pictures, runs and the cache lie outside, in folders that are mounted:
#   docker build -t bakeoff .
#   docker run --rm -it --shm-size=2g -v /path/to/photos:/photos:ro -v "$PWD/outputs:/bakeoff/outputs" \
#     -v bakeoff-cache:/cache bakeoff sweep study=photos data=folder data.root=/photos
# For GPUs of NVIDIA: docker build --build-arg TORCH=cu130 -t bakeoff . and docker run --gpus all ...
FROM python:3.12-slim

# cpu, a CUDA version of PyTorch's own index (cu130), or empty for the build that the lock pins.
ARG TORCH=cpu
ARG EXTRAS="export"

RUN apt-get update \
    && apt-get install -y --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/bakeoff
# What is installed comes first, so that a change of the code installs nothing anew.
COPY Makefile pyproject.toml requirements*.lock ./
RUN make install TORCH="$TORCH" EXTRAS="$EXTRAS"
COPY LICENSE README.md CHANGELOG.md ./
COPY conf conf
COPY sweeps sweeps
COPY src src
RUN .venv/bin/uv pip install --python .venv/bin/python --no-deps .

ENV PATH="/opt/bakeoff/.venv/bin:$PATH" BAKEOFF_CACHE=/cache PYTHONUNBUFFERED=1
# Written by whatever user `docker run --user` names.
RUN useradd --create-home bakeoff && mkdir -p /bakeoff/outputs /cache && chmod 1777 /bakeoff/outputs /cache
USER bakeoff
WORKDIR /bakeoff
VOLUME ["/cache"]
ENTRYPOINT ["bakeoff"]
CMD ["--help"]
