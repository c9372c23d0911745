#include "first_pass.hpp"

#include <exception>

#include "errors.hpp"

namespace muzero_rc {
namespace {

struct BlockReceiver {
  const BlockSink& sink;
  int intra_shift;  // libvpx has inter errors as of 8 bits, intra errors as they are
  std::vector<int32_t> values;
  std::exception_ptr error;
};

void receive_blocks(void* priv, int, int mb_rows, int mb_cols,
                    const vpx_fp_block_stats_t* blocks) {
  auto* receiver = static_cast<BlockReceiver*>(priv);
  if (receiver->error) return;
  try {
    receiver->values.clear();
    for (int i = 0; i < mb_rows * mb_cols; ++i) {
      const vpx_fp_block_stats_t& block = blocks[i];
      receiver->values.insert(receiver->values.end(), {block.intra_error >> receiver->intra_shift, block.inter_error,
                                                       block.mv_row, block.mv_col});
    }
    receiver->sink(mb_rows, mb_cols, receiver->values.data());
  } catch (...) {  // must not unwind through libvpx's C frames
    receiver->error = std::current_exception();
  }
}

}  // namespace

std::string run_first_pass(const Settings& settings, FrameReader& reader, const BlockSink& blocks,
                           const Progress& progress) {
  BlockReceiver receiver{blocks, 2 * (settings.bit_depth - 8), {}, nullptr};
  vpx_fp_block_sink_t sink{receive_blocks, &receiver};
  Encoder encoder(settings, Pass::kFirst);
  if (blocks) encoder.set_block_sink(&sink);
  const auto check = [&] {
    if (receiver.error) std::rethrow_exception(receiver.error);
  };
  int64_t count = 0;
  const Heartbeat heartbeat = [&] { progress(count); };
  while (const uint8_t* frame = reader.next(heartbeat)) {
    encoder.encode(frame, count++);
    check();
    heartbeat();
  }
  if (count == 0) throw CodecError("the clip has no frames", 0, "");
  while (encoder.encode(nullptr, -1)) check();
  check();
  return encoder.take_stats();
}

size_t FirstPassSteps::advance(FrameStore& kept, size_t frames, const Heartbeat& heartbeat) {
  size_t done = 0;
  while (done < frames) {
    const uint8_t* frame = reader_->next(heartbeat);
    if (!frame) break;
    encoder_.encode(frame, count_++);
    kept.append(frame);
    ++done;
    heartbeat();
  }
  return done;
}

void FirstPassSteps::finish() {
  if (count_ == 0) throw CodecError("the clip has no frames", 0, "");
  while (encoder_.encode(nullptr, -1)) {
  }
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
