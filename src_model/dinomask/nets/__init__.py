"""The network: DINOv2-arranged backbone, feature pyramid, CenterMask2 heads."""
