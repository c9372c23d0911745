#include "first_pass.hpp"

#include <new>

#include "errors.hpp"

namespace muzero_rc {
namespace {

void receive_blocks(void* priv, int, int mb_rows, int mb_cols,
                    const vpx_fp_block_stats_t* blocks) {
  auto* sink = static_cast<BlockStats*>(priv);
  sink->rows = mb_rows;
  sink->cols = mb_cols;
  try {
    for (int i = 0; i < mb_rows * mb_cols; ++i) {
      const vpx_fp_block_stats_t& block = blocks[i];
      sink->values.insert(sink->values.end(),
                          {block.intra_error, block.inter_error, block.mv_row, block.mv_col});
    }
  } catch (const std::bad_alloc&) {  // must not unwind through libvpx's C frames
    sink->out_of_memory = true;
  }
}

}  // namespace

std::string run_first_pass(const Settings& settings, FrameReader& reader, BlockStats* blocks,
                           const Progress& progress) {
  Encoder encoder(settings, Pass::kFirst);
  vpx_fp_block_sink_t sink{receive_blocks, blocks};
  if (blocks) encoder.set_block_sink(&sink);
  int64_t count = 0;
  const Heartbeat heartbeat = [&] { progress(count); };
  while (const uint8_t* frame = reader.next(heartbeat)) {
    encoder.encode(frame, count++);
    heartbeat();
  }
  if (count == 0) throw CodecError("the clip has no frames", 0, "");
  while (encoder.encode(nullptr, -1)) {
  }
  if (blocks && blocks->out_of_memory) throw std::bad_alloc();
  return encoder.stats();
}

std::vector<Packet> encode_plain(const Settings& settings, FrameReader& reader,
                                 const std::string* stats, const Heartbeat& heartbeat) {
  Encoder encoder(settings, stats ? Pass::kSecond : Pass::kOnly, stats);
  int64_t count = 0;
  while (const uint8_t* frame = reader.next(heartbeat)) {
    encoder.encode(frame, count++);
    heartbeat();
  }
  while (encoder.encode(nullptr, -1)) heartbeat();
  return encoder.take_packets();
}

}  // namespace muzero_rc
