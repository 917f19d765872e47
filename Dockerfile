# The service without torch: Python, ONNX Runtime and Blemish; 170 MB more than the image of Python itself.
#
#   docker build -t blemish .
#   docker run --rm -p 8000:8000 -v "$PWD/runs/cars/model.onnx:/models/model.onnx:ro" blemish
#
# Several models:  docker run … -e BLEMISH_MODEL="resnet=/models/resnet.onnx yolo=/models/yolo.onnx" blemish
# A Hugging Face Docker Space: this file, a model beside it, and at its end
#   COPY model.onnx /models/model.onnx
#   ENV BLEMISH_PORT=7860 BLEMISH_FRAME_ANCESTOR=https://huggingface.co
# (and `sdk: docker`, `app_port: 7860` in the Space's README).
# Training from few labels in the container, as `train --few`, with the pretrained weights in it (330 MB more):
#   docker build --build-arg REQUIREMENTS=serve-few -t blemish-few .
#   docker run --rm -v "$PWD:/data" blemish-few train --few --data /data/photos --output /data/runs/few
# For hf:// addresses in BLEMISH_MODEL, add the Hub's client in a Dockerfile of your own:
#   FROM blemish
#   USER root
#   RUN pip --python /opt/blemish/bin/python install --no-cache-dir huggingface_hub
#   USER blemish
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS packages
ARG REQUIREMENTS=serve
COPY requirements/${REQUIREMENTS}.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/blemish \
 && pip --python /opt/blemish/bin/python install --no-cache-dir --no-compile --require-hashes -r /tmp/requirements.txt \
 && find /opt/blemish -type d \( -name tests -o -name test -o -name __pycache__ \) -prune -exec rm -rf {} + \
 && find /opt/blemish -name "*.pyi" -delete
COPY src/blemish /opt/blemish/src/blemish
COPY pyproject.toml /opt/blemish/
COPY tools/write_metadata.py /opt/blemish/tools/
# The entry points of the plug-ins that ship with Blemish; then the bytecode of everything that the service imports.
# The bytecode cannot be written later, and without it each start takes half a second of processor time more.
RUN python /opt/blemish/tools/write_metadata.py /opt/blemish/src \
 && PYTHONPATH=/opt/blemish/src /opt/blemish/bin/python -m compileall -q /opt/blemish/src \
 && PYTHONPATH=/opt/blemish/src /opt/blemish/bin/python -c \
    "import blemish.cli, blemish.commands.serve_command, blemish.drawing, blemish.explanation.colormaps, blemish.service.server, blemish.service.app, blemish.contrib.damagelens.damagelens_routes"

FROM python:${PYTHON}-slim
# 1000 is the user that a Hugging Face Space runs as.
RUN useradd --uid 1000 --no-create-home --shell /usr/sbin/nologin blemish \
 && install -d -o blemish /cache
COPY LICENSE /opt/blemish/LICENSE
COPY --from=packages /opt/blemish /opt/blemish
ENV ORT_DISABLE_TELEMETRY=1
ENV PATH=/opt/blemish/bin:$PATH \
    PYTHONPATH=/opt/blemish/src \
    PYTHONUNBUFFERED=1 \
    BLEMISH_HOST=0.0.0.0 \
    BLEMISH_PORT=8000 \
    BLEMISH_MODEL=/models/model.onnx \
    HF_HOME=/cache/huggingface
# Downloads of the Hub's client; -v blemish-cache:/cache keeps them for the next container.
VOLUME /cache
USER 1000
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "\
import os, urllib.request; \
urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['BLEMISH_PORT']}/api/v1/health/ready\", timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "blemish"]
CMD ["serve"]
