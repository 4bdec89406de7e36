# promptprobe in a container, as a user without rights.
#
#   docker build -t promptprobe .                                          CPU
#   docker build -t promptprobe --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .   CUDA, run with --gpus all
#   docker run --rm --network host -v "$PWD/runs:/work/runs" promptprobe serve
#
# Servers listen on loopback only, so a container that serves shares the host's network.
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=mcp,serve,batch,lora
COPY . /src
RUN python3 -m venv /opt/promptprobe \
 && /opt/promptprobe/bin/pip install --no-cache-dir --index-url ${TORCH_INDEX} --extra-index-url https://pypi.org/simple -c /src/constraints.txt torch \
 && /opt/promptprobe/bin/pip install --no-cache-dir -c /src/constraints.txt "/src[${EXTRAS}]" \
 && rm -rf /src \
 && useradd --create-home --uid 1000 probe \
 && install -d -o probe -g probe /work/runs
ENV PATH=/opt/promptprobe/bin:${PATH} PYTHONUNBUFFERED=1
USER probe
WORKDIR /work
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8721/v1/models', timeout=4)"]
ENTRYPOINT ["promptprobe"]
CMD ["serve"]
