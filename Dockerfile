# A container as the NeurIPS 2022 Cell Segmentation Challenge runs it (https://github.com/JunMa11/NeurIPS-CellSeg):
#   docker build -t fewcell .
#   docker container run --rm -v "$PWD/inputs:/workspace/inputs" -v "$PWD/outputs:/workspace/outputs" fewcell
# It needs no GPU and no network.
FROM python:3.11-slim
WORKDIR /workspace
COPY pyproject.toml README.md LICENSE /fewcell/
COPY src /fewcell/src
RUN pip install --no-cache-dir /fewcell
# Loops that are compiled when they are first used are kept, so that containers need not compile them again.
RUN fewcell demo -o /tmp/demo && rm -r /tmp/demo
COPY predict.sh ./
CMD ["sh", "predict.sh"]
